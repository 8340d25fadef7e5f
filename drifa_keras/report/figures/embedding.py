"""Where a network puts the images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from drifa_keras.report.style import (
    FAINT,
    VERMILLION,
    HouseFigure,
    legend_below,
    line_styles,
    styled,
    wrapped,
)

# One fewer than there are colours, so that pairs of both repeat late.
_MARKERS = "osD^vP"


@styled
def tsne_scatter(
    points, y_true, y_pred, class_names: Sequence[str], title: str | None = None
) -> Figure:
    """Images in the plane, coloured by class and by error.

    Args:
        points: `(n, 2)`, such as t-SNE of the features.
        y_true: Integer labels `(n,)`.
        y_pred: Predicted labels `(n,)`.
        class_names: Names of the classes.
        title: Title.

    Returns:
        The figure.

    Raises:
        ValueError: If shapes do not fit.
    """
    points, y_true, y_pred = map(np.asarray, (points, y_true, y_pred))
    if points.shape != (len(y_true), 2) or y_pred.shape != y_true.shape:
        raise ValueError(
            "Expected points (n, 2) and two labels (n,) for each. Received: shapes "
            f"{points.shape}, {y_true.shape} and {y_pred.shape}."
        )
    figure = HouseFigure(figsize=(8.4, 4.3))
    by_class, by_error = figure.subplots(1, 2, sharex=True, sharey=True)
    area = float(np.clip(6000 / max(len(points), 1), 5, 22))
    handles, labels = [], []

    def scatter(ax, rows, label, scale=1.0, **style):
        dots = {"s": scale * area, **style}
        ax.scatter(*points[rows].T, **dots)
        handles.append(ax.scatter([], [], **{**dots, "s": 28}))
        labels.append(f"{wrapped(label, 30)} ({rows.sum():,})")

    for k, line in enumerate(line_styles(len(class_names))):
        marker = {"marker": _MARKERS[k % len(_MARKERS)], "linewidth": 0}
        scatter(by_class, y_true == k, class_names[k], color=line["color"], **marker)
    wrong = y_pred != y_true
    scatter(by_error, ~wrong, "right", color=FAINT, linewidth=0)
    scatter(by_error, wrong, "wrong", 1.6, color=VERMILLION, marker="x", linewidth=1)
    for ax, name in ((by_class, "by class"), (by_error, "by error")):
        ax.set(xticks=[], yticks=[], title=name, box_aspect=1)
        ax.spines[:].set_visible(True)
    legend_below(figure, handles, labels)
    figure.suptitle(title)
    return figure
