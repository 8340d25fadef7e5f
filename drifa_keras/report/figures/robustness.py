"""How answers hold out against attacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from drifa_keras.report.figures.images import (
    SIDE,
    count_cases,
    show_image,
    wrapped_caption,
)
from drifa_keras.report.style import (
    FAINT,
    GREY,
    HouseFigure,
    legend_below,
    line_styles,
    styled,
)

# How much of the distance between strengths the curves spread over.
_ROOM = 0.6


@styled
def accuracy_curves(
    curves: Mapping[str, np.ndarray],
    xlabel: str,
    ticks: Mapping[float, str] | None = None,
    title: str | None = None,
) -> Figure:
    """Accuracy against the strength of an attack, with intervals.

    Strengths are drawn at equal distances, and curves beside each other, so that none
    hides another of the same values.

    Args:
        curves: Label to `(points, 4)`: strength, accuracy, and the ends of its
            interval.
        xlabel: What the strength is.
        ticks: Strength to the text below it; the number by default.
        title: Title.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no curve, or one that is no such array.
    """
    shapes = {label: np.shape(curve) for label, curve in curves.items()}
    if not curves or any(len(s) != 2 or s[1] != 4 or not s[0] for s in shapes.values()):
        raise ValueError(
            "Expected curves of shape (points, 4): strength, accuracy, lower and upper "
            f"end of its interval. Received: {shapes}."
        )
    drawn = [np.asarray(curve, "float64").T for curve in curves.values()]
    strengths = sorted({strength for x, *_ in drawn for strength in x})
    figure = HouseFigure(figsize=(5.2, 3.6))
    ax = figure.subplots()
    # In the middle of its share of what lies around a strength.
    shares = (np.arange(len(drawn)) + 0.5) / len(drawn) - 0.5
    handles = []
    for curve, share, line in zip(drawn, shares, line_styles(len(drawn)), strict=True):
        x, y, low, high = curve
        places = np.searchsorted(strengths, x) + _ROOM * share
        (handle,) = ax.plot(places, y, marker="o", markersize=4, linewidth=1, **line)
        ax.vlines(places, low, high, color=line["color"], alpha=0.45)
        handles.append(handle)
    texts = [(ticks or {}).get(strength, f"{strength:g}") for strength in strengths]
    ax.set_xticks(range(len(strengths)), texts)
    ax.set(xlabel=xlabel, ylabel="accuracy", ylim=(-0.03, 1.03))
    ax.grid(axis="x", visible=False)
    legend_below(figure, handles, list(curves))
    figure.suptitle(title)
    return figure


@styled
def adversarial_examples(
    clean: Mapping[str, np.ndarray],
    attacked: Mapping[str, np.ndarray],
    eps: float,
    captions: Sequence[str] | None = None,
    title: str | None = None,
) -> Figure:
    """Images before and after an attack, and between them what it changed.

    Args:
        clean: Modality to images `(n, height, width, channels)` of 0..255.
        attacked: The same, changed.
        eps: Largest change as a share of 255: it is drawn as black or white, no
            change as grey.
        captions: Text above each row, `(n,)`.
        title: Title.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no image, modalities or lengths differ, or `eps` is
            not more than 0.
    """
    if set(clean) != set(attacked):
        raise ValueError(
            "Expected the same modalities before and after. Received: attacked images "
            f"of {sorted(attacked)}, clean ones of {sorted(clean)}."
        )
    if not eps > 0:
        raise ValueError(
            "`eps` must be more than 0, the share of 255 that is drawn as black or "
            f"white. Received: {eps!r}."
        )
    count = count_cases(
        {**clean, **{f"attacked {name}": attacked[name] for name in attacked}}, captions
    )
    figure = HouseFigure(
        figsize=(max(SIDE * 3 * len(clean), 4.8), (SIDE + 0.35) * count + 0.4)
    )
    rows = figure.subfigures(count, 1, squeeze=False)[:, 0]
    for case, row in enumerate(rows):
        axes = row.subplots(1, 3 * len(clean))
        for place, name in enumerate(clean):
            before = np.asarray(clean[name][case], "float32")
            after = np.asarray(attacked[name][case], "float32")
            plain, change, changed = axes[3 * place : 3 * place + 3]
            show_image(plain, before)
            show_image(changed, after)
            _show_change(change, after - before, 255 * eps)
            plain.set_title(name, fontsize=8)
            change.set_title(f"change x {0.5 / eps:.0f}", fontsize=7, color=GREY)
            changed.set_title("after", fontsize=7, color=GREY)
        if captions is not None:
            caption = wrapped_caption(captions[case], 26 * len(axes))
            row.suptitle(caption, x=0.01, ha="left", fontsize=9)
    figure.suptitle(title)
    return figure


def _show_change(ax, change, largest):
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set(visible=True, color=FAINT)
    shade = np.clip(0.5 + change / (2 * largest), 0, 1)
    if shade.shape[-1] != 3:
        shade = shade[..., :1].repeat(3, axis=-1)
    ax.imshow(shade, interpolation="nearest")
