"""Whether a network knows when it is wrong."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from drifa_keras.report.style import (
    BLUE,
    GREY,
    VERMILLION,
    HouseFigure,
    legend_below,
    line_styles,
    styled,
)
from drifa_keras.uncertainty import ReliabilityDiagram, RiskCoverageCurve


@styled
def reliability_diagram(
    diagrams: Mapping[str, ReliabilityDiagram], title: str | None = None
) -> Figure:
    """Accuracy against confidence, above the share of images in each bin.

    Args:
        diagrams: Label, such as `"before"` and `"after"`, to what
            `drifa_keras.uncertainty.reliability_diagram` gives.
        title: Title.

    Returns:
        The figure. The legend gives the mean distance from the diagonal over the
        images, which is the ECE for bins of equal width.

    Raises:
        ValueError: If there is no diagram, or one without images.
    """
    _check_some(diagrams, "diagram")
    figure = HouseFigure(figsize=(4.8, 5.2))
    ax, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    ax.plot((0, 1), (0, 1), color=GREY, linewidth=1, linestyle=":")
    handles, labels = [], []
    for (label, diagram), line in zip(
        diagrams.items(), line_styles(len(diagrams)), strict=True
    ):
        share = diagram.count / diagram.count.sum()
        there = diagram.count > 0
        points = diagram.confidence[there], diagram.accuracy[there]
        (handle,) = ax.plot(*points, linewidth=1, **line)
        # What a bin says counts as much as it holds images.
        ax.scatter(*points, s=6 + 150 * share[there], color=line["color"], alpha=0.8)
        below.stairs(share, diagram.edges, fill=True, alpha=0.25, **line)
        below.stairs(share, diagram.edges, **line)
        handles.append(handle)
        labels.append(f"{label} (ECE {np.sum(share * diagram.gap):.3f})")
    ax.set(ylabel="accuracy", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    below.set(xlabel="confidence", ylabel="share of images")
    below.yaxis.set_major_formatter(PercentFormatter(1))
    legend_below(figure, handles, labels)
    figure.suptitle(title)
    return figure


@styled
def risk_coverage(
    curves: Mapping[str, RiskCoverageCurve],
    target_risk: float | None = None,
    title: str | None = None,
) -> Figure:
    """Share of wrong answers, where only the surest images are answered.

    Args:
        curves: Label to what `drifa_keras.uncertainty.risk_coverage_curve` gives.
        target_risk: Share of wrong answers that is allowed, to be marked.
        title: Title.

    Returns:
        The figure. The legend gives the area under each curve (AURC).

    Raises:
        ValueError: If there is no curve, or one without images.
    """
    for curve in _check_some(curves, "curve").values():
        _check_some(curve.risk, "image in each curve")
    figure = HouseFigure(figsize=(5.2, 3.6))
    ax = figure.subplots()
    handles, labels = [], []
    for (label, curve), line in zip(
        curves.items(), line_styles(len(curves)), strict=True
    ):
        # Each image that is added is a step.
        (handle,) = ax.step(curve.coverage, curve.risk, where="post", **line)
        handles.append(handle)
        labels.append(f"{label} (AURC {np.mean(curve.risk):.3f})")
    if target_risk is not None:
        handles.append(ax.axhline(target_risk, color=GREY, linewidth=1, linestyle=":"))
        labels.append(f"target risk {target_risk:.0%}")
    ax.set(
        xlabel="coverage: share of images that are answered",
        ylabel="risk: share of wrong answers",
        xlim=(-0.02, 1.02),
    )
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    legend_below(figure, handles, labels)
    figure.suptitle(title)
    return figure


@styled
def entropy_histogram(
    entropy,
    right,
    classes: int | None = None,
    label: str = "predictive entropy (nats)",
    title: str | None = None,
) -> Figure:
    """Uncertainty of right and of wrong predictions.

    Args:
        entropy: `(n,)` entropy, or another measure of uncertainty, of each image.
        right: `(n,)` booleans: whether its prediction is right.
        classes: Number of classes, whose logarithm is the largest entropy there is
            and the end of the axis.
        label: What is measured.
        title: Title.

    Returns:
        The figure; each histogram sums to 100 %.

    Raises:
        ValueError: If shapes do not fit or there is no image.
    """
    entropy, right = np.asarray(entropy, "float64"), np.asarray(right, bool)
    if entropy.ndim != 1 or entropy.shape != right.shape:
        raise ValueError(
            "Expected an entropy and a boolean for each image, of shape (n,). "
            f"Received: shapes {entropy.shape} and {right.shape}."
        )
    _check_some(entropy, "image")
    largest = np.log(classes) if classes else max(entropy.max(), 1e-6)
    edges = np.linspace(0, max(largest, entropy.max()), 26)
    figure = HouseFigure(figsize=(5.2, 3.4))
    ax = figure.subplots()
    handles, labels = [], []
    for name, rows, colour, line in (
        ("right", right, BLUE, "-"),
        ("wrong", ~right, VERMILLION, "--"),
    ):
        count, _ = np.histogram(entropy[rows], edges)
        share = count / max(count.sum(), 1)
        handles.append(ax.stairs(share, edges, fill=True, alpha=0.3, color=colour))
        ax.stairs(share, edges, color=colour, linestyle=line, linewidth=1.6)
        labels.append(f"{name} ({rows.sum():,})")
    ax.set(xlabel=label, ylabel="share of images")
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(handles, labels, title="prediction", alignment="left")
    figure.suptitle(title)
    return figure


def _check_some(things, what):
    if not len(things):
        raise ValueError(f"Expected at least one {what}. Received none.")
    return things
