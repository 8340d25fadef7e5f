"""What a run looks at: Grad-CAM of chosen cases, and its features in a plane."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from drifa_keras import explain, uncertainty
from drifa_keras.evaluation.evaluate import (
    network_of,
    rows_of_task,
    shown_once,
    stacked,
)
from drifa_keras.evaluation.segmentation import foreground_dice
from drifa_keras.runs import Run

# More would take minutes, and neither show more nor change a mean by much.
_POINTS, _EFFECTS = 1000, 200


def explain_run(
    run: Run,
    cases: int = 3,
    method: str = "grad_cam",
    data_root: str | Path | None = None,
    verbose: int | str = "auto",
) -> dict:
    """Explains the answers of a run on its test split.

    Writes `explain.json`, and `explain.npz` with what figures are drawn from: for each
    task `<task>.image.<modality>` and `<task>.map.<modality>` of the cases, and
    `<task>.points`, `<task>.y_true` and `<task>.y_pred` of the test images (at most
    1,000). Of a task that classifies every pixel `<task>.y_true` and `<task>.y_pred`
    are label maps of the cases, and there are no points. Of an ensemble, the first
    member is explained.

    Args:
        run: The run.
        cases: How many cases of each kind: the surest right answers, the surest wrong
            ones, and the least certain ones; of label maps, the slices of highest and
            of lowest Dice of all that is not background, among those that have some.
        method: Of `drifa_keras.explain.grad_cam`.
        data_root: Folder that holds the data sets, where it is no longer the one of
            the training.
        verbose: 0 is silent.

    Returns:
        What `explain.json` holds: `method`, `seed`, and for each of the `tasks` its
        `classes`, its `cases` (each with `id`, `kind`, `true`, `predicted` and
        `probability`) and `effects`: for each modality how much the probability of
        the predicted class falls without its image (`blank`), changes with another
        image in its place (`shuffled`), and how often the answer changes then
        (`flipped`), means over at most 200 test images. Cases of label maps have `id`,
        `kind` and `dice`, and there are no effects.

    Raises:
        ValueError: If the data is not as its reader expects, or a number or the method
            is not usable.
    """
    if not isinstance(cases, int) or cases < 1:
        raise ValueError(
            f"`cases` must be an integer of at least 1. Received: {cases!r}."
        )
    config = run.config
    test, (batches, indices, counted) = shown_once(run, data_root, verbose != 0)
    model = network_of(run)
    images = stacked(batches)
    answers = [task for task in test.tasks if task not in test.maps]
    predicted = model.predict(images, verbose=0)
    features = explain.embedding(model, images, tasks=answers) if answers else {}
    report = {"method": method, "seed": config.seed, "tasks": {}}
    arrays = {}
    for task, probabilities in predicted.items():
        source = test.sources[test.source_of_task(task)]
        labels = source.targets[task]
        rows = rows_of_task(test, task, indices, counted)
        if task in test.maps:
            found, of_cases, maps = _of_maps(source, task, probabilities, rows, cases)
            report["tasks"][task] = {"classes": list(run.class_names[task]), **found}
            arrays |= {f"{task}.{name}": array for name, array in maps.items()}
            if len(of_cases):
                shown = {name: array[of_cases] for name, array in images.items()}
                heat = explain.grad_cam(model, shown, task=task, method=method)
                arrays |= {f"{task}.image.{name}": a for name, a in shown.items()}
                arrays |= {f"{task}.map.{name}": a for name, a in heat.items()}
            continue
        rows = rows[labels >= 0]
        ids, labels = source.ids[labels >= 0], labels[labels >= 0]
        chosen = _choose(probabilities[rows], labels, cases)
        found = {
            "classes": list(run.class_names[task]),
            "cases": [
                {
                    "id": str(ids[case]),
                    "kind": kind,
                    "true": int(labels[case]),
                    "predicted": int(probabilities[rows[case]].argmax()),
                    "probability": float(probabilities[rows[case]].max()),
                }
                for kind, case in chosen
            ],
        }
        if chosen:
            of_cases = rows[[case for _, case in chosen]]
            shown = {name: array[of_cases] for name, array in images.items()}
            maps = explain.grad_cam(model, shown, task=task, method=method)
            arrays |= {f"{task}.image.{name}": a for name, a in shown.items()}
            arrays |= {f"{task}.map.{name}": a for name, a in maps.items()}
        some = np.random.default_rng(config.seed).permutation(len(rows))
        if len(rows) > 1:
            of_effects = rows[some[:_EFFECTS]]
            of_task = {name: array[of_effects] for name, array in images.items()}
            effects = explain.cross_effect(model, of_task, task=task, seed=config.seed)
            found["effects"] = {
                name: {
                    key: float(np.mean(getattr(effect, key)))
                    for key in ("blank", "shuffled", "flipped")
                }
                for name, effect in effects.items()
            }
        if len(rows) > 3:
            some = some[:_POINTS]
            points = explain.tsne(features[task][rows[some]], seed=config.seed)
            arrays |= {
                f"{task}.points": points,
                f"{task}.y_true": labels[some],
                f"{task}.y_pred": probabilities[rows[some]].argmax(axis=1),
            }
        report["tasks"][task] = found
    np.savez_compressed(run.folder / "explain.npz", **arrays)
    run.write_json("explain.json", report)
    return report


def _choose(probabilities, labels, cases):
    """Pairs (kind, position) of the cases to show."""
    right = probabilities.argmax(axis=1) == labels
    surest = np.argsort(-probabilities.max(axis=1), kind="stable")
    entropy = uncertainty.predictive_entropy(probabilities[None])
    kinds = {
        "right": surest[right[surest]],
        "wrong": surest[~right[surest]],
        "uncertain": np.argsort(-entropy, kind="stable"),
    }
    return [(kind, row) for kind, rows in kinds.items() for row in rows[:cases]]


def _of_maps(source, task, probabilities, rows, cases):
    """The slices to show of a task with label maps: summary, rows, and the maps."""
    labels = source.targets[task]
    answers = probabilities[rows].argmax(axis=-1)
    dice, (sizes, _) = foreground_dice(labels, answers)
    some = np.flatnonzero(sizes)
    order = some[np.argsort(-dice[some], kind="stable")]
    chosen = [("best", row) for row in order[:cases]]
    chosen += [("worst", row) for row in order[::-1][:cases]]
    places = [row for _, row in chosen]
    summary = [
        {"id": str(source.ids[row]), "kind": kind, "dice": float(dice[row])}
        for kind, row in chosen
    ]
    maps = {"y_true": labels[places], "y_pred": answers[places].astype("int8")}
    return {"cases": summary}, rows[places], maps
