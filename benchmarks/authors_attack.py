"""Robust-MAIL under its authors' attack, and under attacks that know it is random.

    drifa train brain_tumor_mri_iq_othnccd_small --data-root DATA --out runs/released \
        --preset robust_mail_released --set "model.arguments={filters: [16, 32, 64], \
        groups: 4, stem: small, dropout_after: [1], norm_momentum: 0.9}"
    python benchmarks/authors_attack.py runs/released

The authors' attack: PGD of 10 steps of eps / 4 at eps 4/255, on both images jointly,
from the clean images, without restarts; every gradient and every answer is that of one
draw. Ours, at the same eps: the mean of several draws behind a gradient, random starts,
gradients that pass the clips of the attention noise, and an answer that is the mean of
ten draws. Accuracies are over the same test cases, with 95 % Wilson intervals.
"""

import argparse

import numpy as np

from drifa_keras import robustness
from drifa_keras.evaluation import labelled_cases
from drifa_keras.runs import Run

EPS = 4 / 255
AUTHORS = robustness.PGD(10, step_size=0.25, random_start=False)
OURS = {
    "PGD-20": robustness.PGD(20),
    "APGD-CE-20": robustness.APGD("ce", 20),
    "APGD-DLR-20": robustness.APGD("dlr", 20),
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", help="run folder")
    parser.add_argument("--data-root", default=None)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--draws", type=int, nargs="+", default=[1, 5, 10])
    arguments = parser.parse_args()
    run = Run.open(arguments.run)
    model = run.load_model()
    x, y = labelled_cases(run, arguments.images, arguments.data_root)
    common = {"check_at": None, "seed": run.config.seed, "batch_size": 128}
    theirs = robustness.evaluate(
        model, x, y, [EPS], {"authors": AUTHORS}, draws=[1], votes=1, **common
    )
    ours = robustness.evaluate(
        model, x, y, [EPS], OURS, draws=arguments.draws, votes=10, **common
    )
    count = len(next(iter(x.values())))
    print(f"{run.config.model.preset}, {count} cases, eps 4/255; draws behind each\n")
    print("| task | attack | gradient | answer | accuracy | of what was right |")
    print("|---" * 6 + "|")
    for task in y:
        for report, votes in ((theirs, 1), (ours, 10)):
            found = report["tasks"][task]
            clean = found["clean"]["value"]
            show(task, "none", "", votes, found["clean"], clean)
            for entry in found["attacks"]:
                name, k = entry["attack"], entry["draws"]
                show(task, name, k, votes, entry["accuracy"], clean)
        survived = ours["tasks"][task]["union"][0]["accuracy"]
        show(task, "all of ours", "", 10, survived, clean)
    passing = straight_through(model, x, y, max(arguments.draws), run.config.seed)
    for task, accuracy in passing.items():
        print(f"{task}: PGD-20 whose gradients pass the clips leaves {accuracy:.3f}")


def straight_through(model, x, y, draws, seed):
    attacked = robustness.PGD(20)(
        model, x, y, EPS, draws=draws, straight_through=True, seed=seed
    )
    probabilities = [model.predict(attacked, verbose=0) for _ in range(10)]
    return {
        task: np.mean(
            np.mean([p[task] for p in probabilities], axis=0).argmax(axis=1) == labels
        )
        for task, labels in y.items()
    }


def show(task, attack, draws, votes, accuracy, clean):
    low, high = accuracy["interval"]
    value = f"{accuracy['value']:.3f} ({low:.3f} to {high:.3f})"
    share = f"{accuracy['value'] / clean:.0%}" if clean else ""
    print(f"| {task} | {attack} | {draws} | {votes} | {value} | {share} |")


if __name__ == "__main__":
    main()
