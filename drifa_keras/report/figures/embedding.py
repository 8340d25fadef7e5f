"""Where a network puts the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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


@styled
def tsne_comparison(
    points: Mapping[str, np.ndarray],
    y_true,
    class_names: Sequence[str],
    title: str | None = None,
    columns: int = 4,
) -> Figure:
    """The same images in the planes of several networks, coloured by class.

    As Fig. 5 of Dhar et al., *Multimodal Fusion Learning with Dual Attention for
    Medical Imaging*, WACV 2025.

    Args:
        points: Network to points `(n, 2)`.
        y_true: Integer labels `(n,)`.
        class_names: Names of the classes.
        title: Title.
        columns: Networks beside each other, at most.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no network, or shapes do not fit.
    """
    y_true = np.asarray(y_true)
    shapes = {name: np.shape(of_network) for name, of_network in points.items()}
    if not shapes or set(shapes.values()) != {(len(y_true), 2)}:
        raise ValueError(
            f"Expected points ({len(y_true)}, 2), one for each label, of at least one "
            f"network. Received: {shapes or 'none'}."
        )
    columns = min(columns, len(points))
    rows = -(-len(points) // columns)
    figure = HouseFigure(figsize=(max(2.3 * columns, 4.6), 2.5 * rows + 0.3))
    grid = figure.subplots(rows, columns, squeeze=False)
    for ax in grid.flat[len(points) :]:
        ax.set_axis_off()
    area = float(np.clip(3000 / max(len(y_true), 1), 4, 16))
    handles, labels = [], []
    lines = line_styles(len(class_names))
    for ax, (name, of_network) in zip(grid.flat, points.items(), strict=False):
        for k, line in enumerate(lines):
            style = {
                "marker": _MARKERS[k % len(_MARKERS)],
                "color": line["color"],
                "linewidth": 0,
            }
            ax.scatter(*np.asarray(of_network)[y_true == k].T, s=area, **style)
            if len(handles) < len(lines):
                handles.append(ax.scatter([], [], s=28, **style))
                labels.append(
                    f"{wrapped(class_names[k], 30)} ({(y_true == k).sum():,})"
                )
        ax.set(xticks=[], yticks=[], title=wrapped(name, 26), box_aspect=1)
        ax.spines[:].set_visible(True)
    legend_below(figure, handles, labels)
    figure.suptitle(title)
    return figure
