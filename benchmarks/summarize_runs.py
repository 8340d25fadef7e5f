"""A table of runs: means and standard deviations over seeds.

    python benchmarks/summarize_runs.py runs/small/*

Runs that differ in their seed alone are one row. Baselines come from the runs that
were trained with `--baselines`.
"""

import argparse
import collections
import json

import numpy as np

from drifa_keras.runs import Run

SHOWN = ("accuracy", "balanced_accuracy", "f1", "auc")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", help="run folders")
    arguments = parser.parse_args()
    rows = collections.defaultdict(list)
    baselines = {}
    for folder in arguments.runs:
        run = Run.open(folder)
        report = run.read_json("metrics.json")
        rows[label(run.config)].append(report["tasks"])
        baselines |= report.get("baselines", {})
    tasks = list(next(iter(rows.values()))[0])
    titles = [f"{task} {name.replace('_', ' ')}" for task in tasks for name in SHOWN]
    print("| network | runs | " + " | ".join(titles) + " |")
    print("|---" * (len(titles) + 2) + "|")
    for name, results in baselines.items():
        print(row(name.replace("_", " "), "", [results], tasks))
    for name, results in rows.items():
        print(row(name, len(results), results, tasks))


def label(config):
    arguments = config.model.arguments
    return " ".join(
        [config.model.preset, *([json.dumps(arguments)] if arguments else [])]
    )


def row(name, count, results, tasks):
    cells = []
    for task in tasks:
        for metric in SHOWN:
            values = [result[task]["metrics"][metric]["value"] for result in results]
            spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.3f}{spread}")
    return f"| {name} | {count} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
