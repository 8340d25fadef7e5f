"""Which classes are told apart, and which are mistaken."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from drifa_keras.report.style import (
    FAINT,
    GREY,
    HouseFigure,
    legend_below,
    line_styles,
    styled,
    wrapped,
)


@styled
def confusion_matrix(
    matrix, class_names: Sequence[str], title: str | None = None
) -> Figure:
    """How often each class is taken for each: counts, and shares of the true class.

    Args:
        matrix: Counts `(classes, classes)`; rows are true, columns predicted.
        class_names: Names of the classes.
        title: Title.

    Returns:
        The figure. A class without an image has an empty row.

    Raises:
        ValueError: If the matrix is not square or does not fit the names.
    """
    matrix = np.asarray(matrix)
    count = len(class_names)
    if matrix.shape != (count, count):
        raise ValueError(
            f"Expected counts of shape {(count, count)} for the {count} classes. "
            f"Received: shape {matrix.shape}."
        )
    totals = matrix.sum(axis=1, keepdims=True)
    rates = np.where(totals > 0, matrix / np.maximum(totals, 1), np.nan)

    cell = float(np.clip(9 / count, 0.42, 0.75 if count > 3 else 1.1))
    figure = HouseFigure(figsize=(cell * count + 1.9, cell * count + 1.6))
    ax = figure.subplots()
    ax.set_facecolor(FAINT)
    ax.imshow(rates, vmin=0, vmax=1, cmap="Blues")
    for (row, column), number in np.ndenumerate(matrix):
        rate = rates[row, column]
        ax.text(
            column,
            row,
            f"{number:,}\n{rate:.0%}" if number else "0",
            ha="center",
            va="center",
            fontsize=min(10, 16 * cell),
            color="white" if rate > 0.55 else "black" if number else GREY,
        )
    names = [wrapped(name, 22, 3 if cell > 0.6 else 1) for name in class_names]
    longest = max(len(line) for name in names for line in name.splitlines())
    ax.set_xticks(range(count), names, rotation=90 if longest > 12 * cell else 0)
    ax.set_yticks(range(count), names)
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set(xlabel="predicted", ylabel="true")
    figure.suptitle(title)
    return figure


@styled
def roc_curves(
    y_true, probabilities, class_names: Sequence[str], title: str | None = None
) -> Figure:
    """Sensitivity against false alarms, each class against all others.

    Args:
        y_true: Integer labels `(n,)`.
        probabilities: `(n, classes)`.
        class_names: Names of the classes.
        title: Title.

    Returns:
        The figure. A class of no image or of all has no curve; the legend says so.

    Raises:
        ValueError: If shapes do not fit.
    """
    from sklearn.metrics import auc, roc_curve

    def curve(truth, score):
        false, true, _ = roc_curve(truth, score)
        return false, true, f"AUC {auc(false, true):.3f}"

    figure = _per_class(y_true, probabilities, class_names, curve)
    ax = figure.axes[0]
    ax.axline((0, 0), slope=1, color=GREY, linewidth=1, linestyle=":")
    ax.set(xlabel="false positive rate", ylabel="true positive rate (sensitivity)")
    figure.suptitle(title)
    return figure


@styled
def precision_recall_curves(
    y_true, probabilities, class_names: Sequence[str], title: str | None = None
) -> Figure:
    """Precision against recall, each class against all others.

    The legend gives the average precision (AP), and the share of the class, which is
    the precision of guessing.

    Args:
        y_true: Integer labels `(n,)`.
        probabilities: `(n, classes)`.
        class_names: Names of the classes.
        title: Title.

    Returns:
        The figure. A class of no image or of all has no curve; the legend says so.

    Raises:
        ValueError: If shapes do not fit.
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve

    def curve(truth, score):
        precision, recall, _ = precision_recall_curve(truth, score)
        area = average_precision_score(truth, score)
        return recall, precision, f"AP {area:.3f}, share {truth.mean():.3f}"

    figure = _per_class(y_true, probabilities, class_names, curve)
    figure.axes[0].set(xlabel="recall (sensitivity)", ylabel="precision")
    figure.suptitle(title)
    return figure


def _per_class(y_true, probabilities, class_names, curve):
    y_true, probabilities = np.asarray(y_true), np.asarray(probabilities)
    expected = (len(y_true), len(class_names))
    if y_true.ndim != 1 or probabilities.shape != expected:
        raise ValueError(
            f"Expected labels (n,) and probabilities {expected} for the "
            f"{len(class_names)} classes. Received: shapes {y_true.shape} and "
            f"{probabilities.shape}."
        )
    figure = HouseFigure(figsize=(5.2, 4.6))
    ax = figure.subplots()
    labels, handles = [], []
    for k, line in enumerate(line_styles(len(class_names))):
        truth = y_true == k
        if truth.any() and not truth.all():
            x, y, score = curve(truth, probabilities[:, k])
            (handle,) = ax.plot(x, y, **line)
        else:
            score = "every image" if truth.any() else "no image"
            handle = Line2D([], [], linestyle="none")
        handles.append(handle)
        labels.append(f"{wrapped(class_names[k], 30)}\n{score}")
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    legend_below(figure, handles, labels)
    return figure
