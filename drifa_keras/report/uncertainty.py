"""The figures of what `drifa uncertainty` wrote into a run folder."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from drifa_keras import uncertainty
from drifa_keras.report import figures

_CERTAIN = {
    "most_certain": "the most certain images",
    "least_certain": "the least certain images",
}


def uncertainty_figures(
    report: Mapping, arrays: Mapping[str, np.ndarray]
) -> dict[str, Figure]:
    """Draws the uncertainty of a run.

    Args:
        report: What `uncertainty.json` holds.
        arrays: What `uncertainty.npz` holds.

    Returns:
        Dict of `reliability_<task>`, `risk_coverage_<task>`, `entropy_<task>`,
        `most_certain_<task>` and `least_certain_<task>` to figures; of label maps the
        first and the last two. Tasks without labelled images have none.
    """
    drawn = {}
    for task, summary in report["tasks"].items():
        if not summary["images"]:
            continue
        of_task = {
            name.removeprefix(f"{task}."): array
            for name, array in arrays.items()
            if name.startswith(f"{task}.")
        }
        draw = _of_maps if "regions" in summary else _of_task
        drawn |= {
            f"{name}_{task}": figure
            for name, figure in draw(task, summary, of_task).items()
        }
    return drawn


def _of_maps(task, summary, arrays):
    """The figures of a task that classifies every pixel."""
    diagrams = {
        "with dropout" if row["uq"] else "without dropout": _diagram(row["reliability"])
        for row in summary["table"]
    }
    drawn = {"reliability": figures.reliability_diagram(diagrams, title=task)}
    for which, title in _CERTAIN.items():
        start = f"{which}."
        maps = {
            name.removeprefix(start): array
            for name, array in arrays.items()
            if name.startswith(start)
        }
        if maps:
            y_true, y_pred, entropy = (
                maps.pop(name) for name in ("y_true", "y_pred", "entropy")
            )
            captions = [
                f"{name}: {e.mean():.3f} nats"
                for name, e in zip(summary[which], entropy, strict=True)
            ]
            drawn[which] = figures.label_map_panels(
                maps,
                y_true,
                y_pred,
                summary["classes"],
                captions,
                title=f"{task}: {title}",
                entropy=entropy,
            )
    return drawn


def _of_task(task, summary, arrays):
    y_true, names = arrays["y_true"], summary["classes"]
    right = arrays["mean"].argmax(axis=1) == y_true
    curve = uncertainty.risk_coverage_curve
    return {
        "reliability": figures.reliability_diagram(
            {_label(row): _diagram(row["reliability"]) for row in summary["table"]},
            title=task,
        ),
        "risk_coverage": figures.risk_coverage(
            {
                "mean without dropout": curve(y_true, arrays["plain"]),
                "mean with dropout": curve(y_true, arrays["mean"]),
                "... by mutual information": curve(
                    y_true, arrays["mean"], -arrays["mutual_information"]
                ),
            },
            target_risk=summary["selective"]["target_risk"],
            title=task,
        ),
        "entropy": figures.entropy_histogram(
            arrays["predictive_entropy"], right, classes=len(names), title=task
        ),
        **{
            which: _grid(which, summary, arrays, f"{task}: {title}")
            for which, title in _CERTAIN.items()
        },
    }


def _label(row):
    name = "with dropout" if row["uq"] else "without dropout"
    return name if row["temperature"] == 1 else f"{name}, T = {row['temperature']:.2f}"


def _diagram(saved):
    columns = {
        name: np.asarray([np.nan if value is None else value for value in column])
        for name, column in saved.items()
    }
    return uncertainty.ReliabilityDiagram(**columns)


def _grid(which, summary, arrays, title):
    row = {name: number for number, name in enumerate(arrays["id"].tolist())}
    captions = []
    for name in summary[which]:
        number = row[name]
        guess = summary["classes"][arrays["mean"][number].argmax()]
        truth = summary["classes"][arrays["y_true"][number]]
        entropy = arrays["predictive_entropy"][number]
        verdict = "right" if guess == truth else f"is {truth}"
        captions.append(f"{guess} ({verdict}), {entropy:.2f} nats")
    start = f"{which}."
    images = {
        name.removeprefix(start): array
        for name, array in arrays.items()
        if name.startswith(start)
    }
    return figures.image_grid(images, captions, title=title)
