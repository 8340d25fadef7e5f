"""Table 7 of runs: what Monte-Carlo dropout, ensembles and temperatures change.

    python benchmarks/summarize_uncertainty.py runs/a runs/b

Reads the `uncertainty.json` that `drifa uncertainty` wrote. "One network" is the mean
over the members of an ensemble, each by itself and without dropout.
"""

import argparse

from drifa_keras.runs import Run

SHOWN = ("accuracy", "precision", "recall", "f1", "ece", "nll", "brier", "aurc")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", help="run folders")
    results = {}
    for folder in parser.parse_args().runs:
        results |= Run.open(folder).read_json("uncertainty.json")["tasks"]
    print("| task | | T | " + " | ".join(SHOWN) + " |")
    print("|---" * (len(SHOWN) + 3) + "|")
    for task, result in results.items():
        draws = f"{result['passes']} passes of {result['members']} network(s)"
        for row in result["table"]:
            what = draws if row["uq"] else "one network"
            cells = " | ".join(f"{row[name]:.3f}" for name in SHOWN)
            print(f"| {task} | {what} | {row['temperature']:.2f} | {cells} |")
    print("\n| task | method | coverage | classes in a set | empty sets |")
    print("|---" * 5 + "|")
    for task, result in results.items():
        for method, found in (result["conformal"] or {"methods": {}})[
            "methods"
        ].items():
            coverage = f"{found['coverage']:.3f} ± {found['spread']:.3f}"
            size, empty = f"{found['set_size']:.2f}", f"{found['empty']:.1%}"
            print(f"| {task} | {method.upper()} | {coverage} | {size} | {empty} |")


if __name__ == "__main__":
    main()
