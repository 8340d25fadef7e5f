"""What an attack leaves, by the size, the number and the kind of its steps.

    python benchmarks/attack_steps.py RUN
    python benchmarks/attack_steps.py RUN --eps 8 --draws 10

Says why one attack is stronger than another on the test cases of a run: PGD of 20 steps
of several sizes, with momentum, and APGD, which sets its own, of more and more steps.
"""

import argparse

from drifa_keras import robustness
from drifa_keras.evaluation import labelled_cases
from drifa_keras.runs import Run

_SIZES = (0.03, 0.125, 0.25, 0.5, 1.0)
_STEPS = (20, 50, 100, 200)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="run folder")
    parser.add_argument("--data-root", help="folder that holds the data sets")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--eps", type=float, default=4, help="in grey levels of 255")
    parser.add_argument("--draws", type=int, default=10, help="of a random network")
    arguments = parser.parse_args()
    run = Run.open(arguments.run)
    x, y = labelled_cases(run, arguments.images, arguments.data_root)
    attacks = {
        f"PGD-20, steps of {size:g} eps": robustness.PGD(20, step_size=size)
        for size in _SIZES
    }
    attacks["PGD-20, steps of 0.25 eps, momentum"] = robustness.MIFGSM(
        20, step_size=0.25
    )
    attacks |= {f"APGD-CE-{n}": robustness.APGD("ce", n) for n in _STEPS}
    report = robustness.evaluate(
        run.load_model(),
        x,
        y,
        [arguments.eps / 255],
        attacks,
        draws=[arguments.draws],
        check_at=None,
        batch_size=128,
        seed=run.config.seed,
        progress=lambda done, count, name: print(f"{done}/{count} {name}"),
    )
    tasks = report["tasks"]
    print(f"\n| eps {arguments.eps:g}/255 | {' | '.join(tasks)} |")
    print("|---" * (1 + len(tasks)) + "|")
    rows = {"clean": [found["clean"] for found in tasks.values()]}
    for number, name in enumerate(attacks):
        rows[name] = [found["attacks"][number]["accuracy"] for found in tasks.values()]
    for name, accuracies in rows.items():
        cells = [f"{accuracy['value']:.3f}" for accuracy in accuracies]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
