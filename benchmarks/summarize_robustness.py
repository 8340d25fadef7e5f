"""Accuracy under attack of several runs: mean and standard deviation over seeds.

    python benchmarks/summarize_robustness.py runs/*

Reads the `robustness.json` that `drifa attack` wrote. Runs of the same network, trained
in the same way, are one row. What counts is what survives every attack of at most that
size; a random network answers with the mean of its draws. Then come what each attack
leaves by itself, with the most draws; the accuracy of random networks against the draws
behind a gradient; and the checks that do not hold. `--json` keeps what they are made of
in one file, from which the same tables can be printed without the runs:

    python benchmarks/summarize_robustness.py runs/* --json robustness.json
    python benchmarks/summarize_robustness.py robustness.json
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from drifa_keras.runs import Run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", help="run folders, or files of `--json`")
    parser.add_argument("--json", help="write what the tables are made of to this file")
    arguments = parser.parse_args()
    entries = [entry for path in arguments.runs for entry in _read(Path(path))]
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(entries) + "\n")
    rows = defaultdict(list)
    for entry in entries:
        report = entry["report"]
        rows[entry["network"], _training(report)].append(report)
    first = next(iter(rows.values()))[0]
    sizes = first["eps"]
    names = [f"{eps * 255:g}/255" for eps in sizes]
    votes = max(entry["report"]["votes"] for entry in entries)
    print(
        f"{first['images']} test cases, protocol {first['protocol']}, "
        f"{votes} draws an answer where the network is random."
    )
    for task, found in first["tasks"].items():
        print(f"\n{task}, {found['images']} images\n")
        print("| network | trained on | seeds | clean | " + " | ".join(names) + " |")
        print("|---" * (4 + len(names)) + "|")
        shares = [r["tasks"][task].get("majority") for rs in rows.values() for r in rs]
        shares = [share for share in shares if share is not None]
        if shares:  # older files lack it
            always = [f"{np.mean(shares):.3f}"] * (1 + len(names))
            print(f"| always the most frequent class | | | {' | '.join(always)} |")
        for (preset, training), reports in rows.items():
            cells = [_mean([r["tasks"][task]["clean"]["value"] for r in reports])]
            for place in range(len(sizes)):
                values = [
                    r["tasks"][task]["union"][place]["accuracy"]["value"]
                    for r in reports
                ]
                cells.append(_mean(values))
            line = " | ".join([preset, training, str(len(reports)), *cells])
            print(f"| {line} |")
    _print_attacks(rows, first, names)
    _print_draws(rows, first)
    _print_checks(rows)


def _read(path):
    """What was found of the network and the seed of a run, or of several."""
    if path.suffix == ".json":
        return json.loads(path.read_text())
    run = Run.open(path)
    return [
        {
            "network": run.config.model.preset,
            "seed": run.config.seed,
            "report": run.read_json("robustness.json"),
        }
    ]


def _print_attacks(rows, first, names):
    print(f"\n| network | trained on | task | attack | {' | '.join(names)} |")
    print("|---" * (4 + len(names)) + "|")
    for (preset, training), reports in rows.items():
        for task in first["tasks"]:
            # Entries are in the order of eps, and of draws, of which the last stay.
            found = defaultdict(lambda: defaultdict(dict))
            for number, report in enumerate(reports):
                for entry in report["tasks"][task]["attacks"]:
                    if not entry["aim"] == entry["changed"] == "all":
                        continue
                    value = entry["accuracy"]["value"]
                    found[entry["attack"]][entry["eps"]][number] = value
            for attack, by_eps in found.items():
                means = [_mean(list(values.values())) for values in by_eps.values()]
                print(f"| {' | '.join([preset, training, task, attack, *means])} |")


def _print_draws(rows, first):
    rows = {key: reports for key, reports in rows.items() if reports[0]["random"]}
    if not rows:
        return
    print("\n| network | trained on | task | attack | eps | draws: accuracy |")
    print("|---" * 6 + "|")
    for (preset, training), reports in rows.items():
        for task in first["tasks"]:
            points = defaultdict(list)
            for report in reports:
                for entry in report["tasks"][task]["attacks"]:
                    key = entry["attack"], entry["eps"]
                    points[key, entry["draws"]].append(entry["accuracy"]["value"])
            for attack, eps in dict.fromkeys(key for key, _ in points):
                found = [
                    f"{draws}: {_mean(values)}"
                    for (key, draws), values in points.items()
                    if key == (attack, eps)
                ]
                if len(found) > 1:
                    size = f"{eps * 255:g}/255"
                    cells = [preset, training, task, attack, size, ", ".join(found)]
                    print(f"| {' | '.join(cells)} |")


def _print_checks(rows):
    lines, held, count = [], 0, 0
    for (preset, training), reports in rows.items():
        checks = defaultdict(list)
        for report in reports:
            for check in report["checks"]:
                checks[check["task"], check["check"]].append(check)
        for (task, name), found in checks.items():
            values = _mean([check["value"] for check in found])
            holds = [check["holds"] for check in found if check["holds"] is not None]
            held, count = held + sum(holds), count + len(holds)
            if not holds or not all(holds):
                verdict = f"{sum(holds)} of {len(holds)}" if holds else "-"
                lines.append([preset, training, task, name, values, verdict])
    print(
        f"\n{held} of {count} checks hold. Those that do not, and what is no verdict:\n"
    )
    print("| network | trained on | task | check | value | holds |")
    print("|---" * 6 + "|")
    for line in lines:
        print(f"| {' | '.join(line)} |")


def _training(report):
    trained = report["trained"]
    if trained is None:
        return "clean"
    return f"PGD-{trained['steps']}, {trained['eps'] * 255:g}/255"


def _mean(values):
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


if __name__ == "__main__":
    main()
