"""The figures of what `drifa explain` wrote into a run folder."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from drifa_keras.report import figures

KINDS = ("right", "wrong", "uncertain", "best", "worst")


def explain_figures(
    report: Mapping, arrays: Mapping[str, np.ndarray]
) -> dict[str, Figure]:
    """Draws where a network looks, and where it puts the images.

    Args:
        report: What `explain.json` holds: for each of the `tasks` its `classes` and
            its `cases`, each with `id`, `kind` (of `KINDS`), `true` and `predicted`
            (numbers of classes) and `probability` (of the predicted one), or `dice`.
        arrays: What `explain.npz` holds: for each task `<task>.image.<modality>`
            `(cases, height, width, channels)` and `<task>.map.<modality>`
            `(cases, rows, columns)`, in the order of the cases; `<task>.points`
            `(images, 2)`, `<task>.y_true` and `<task>.y_pred` `(images,)` of the whole
            test split. Of label maps, the last two are `(cases, height, width)`.

    Returns:
        Dict of `grad_cam_<kind>_<task>`, for the kinds that have cases,
        `maps_<kind>_<task>` where there are label maps, and `tsne_<task>` to figures.
    """
    drawn = {}
    for task, of_task in report["tasks"].items():
        images, maps = (
            {
                name.removeprefix(start): array
                for name, array in arrays.items()
                if name.startswith(start)
            }
            for start in (f"{task}.image.", f"{task}.map.")
        )
        cases = of_task["cases"]
        for kind in KINDS:
            rows = [k for k, case in enumerate(cases) if case["kind"] == kind]
            if rows and f"{task}.y_true" in arrays and "dice" in cases[rows[0]]:
                drawn[f"maps_{kind}_{task}"] = figures.label_map_panels(
                    {name: array[rows] for name, array in images.items()},
                    arrays[f"{task}.y_true"][rows],
                    arrays[f"{task}.y_pred"][rows],
                    of_task["classes"],
                    [_caption(cases[k], of_task["classes"]) for k in rows],
                    title=f"{task}: {kind}",
                )
            if rows:
                drawn[f"grad_cam_{kind}_{task}"] = figures.grad_cam_panels(
                    {name: array[rows] for name, array in images.items()},
                    {name: array[rows] for name, array in maps.items()},
                    [_caption(cases[k], of_task["classes"]) for k in rows],
                    title=f"{task}: {kind}",
                )
        if f"{task}.points" in arrays:
            drawn[f"tsne_{task}"] = figures.tsne_scatter(
                arrays[f"{task}.points"],
                arrays[f"{task}.y_true"],
                arrays[f"{task}.y_pred"],
                of_task["classes"],
                title=task,
            )
    return drawn


def _caption(case, classes):
    if "dice" in case:
        return f"{case['id']}: Dice {case['dice']:.2f}"
    guess, truth = classes[case["predicted"]], classes[case["true"]]
    verdict = "right" if guess == truth else f"is {truth}"
    return f"{case['id']}: {guess} {case['probability']:.2f} ({verdict})"
