"""Label maps over images, and how well they fit from case to case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from drifa_keras.report.figures.images import (
    SIDE,
    count_cases,
    show_image,
    wrapped_caption,
)
from drifa_keras.report.style import (
    BLUE,
    FAINT,
    GREY,
    PALETTE,
    HouseFigure,
    styled,
)

# How strongly a label covers the image.
_COVER = 0.6


@styled
def label_map_panels(
    images: Mapping[str, np.ndarray],
    y_true: np.ndarray,
    y_pred: np.ndarray | Mapping[str, np.ndarray],
    class_names: Sequence[str],
    captions: Sequence[str] | None = None,
    title: str | None = None,
    entropy: np.ndarray | None = None,
) -> Figure:
    """Images beside what is there and what was predicted, one row a case.

    Args:
        images: Modality to images `(n, height, width, channels)` of 0..255. An image
            of zeros is an absent one.
        y_true: Labels `(n, height, width)`; 0 is the background, which is not drawn,
            and -1 unknown.
        y_pred: Predicted labels, of the same shape, or network to those of each.
        class_names: Names of the classes.
        captions: Text above each row, `(n,)`.
        title: Title.
        entropy: Predictive entropy of every pixel, `(n, height, width)`, drawn last,
            on one scale for all cases.

    Returns:
        The figure; labels are drawn over the first modality.

    Raises:
        ValueError: If there is no image, or the lengths differ.
    """
    answers = y_pred if isinstance(y_pred, Mapping) else {"prediction": y_pred}
    answers = {
        name: np.asarray(labels)
        for name, labels in {"truth": y_true, **answers}.items()
    }
    lengths = {**images, **answers}
    if entropy is not None:
        lengths["entropy"] = entropy = np.asarray(entropy)
    count = count_cases(lengths, captions)
    first = next(iter(images.values()))
    columns = len(images) + len(answers) + (entropy is not None)
    figure = HouseFigure(
        figsize=(max(SIDE * columns, 4.2), (SIDE + 0.35) * count + 0.7)
    )
    rows = figure.subfigures(count, 1, squeeze=False)[:, 0]
    for case, row in enumerate(rows):
        axes = row.subplots(1, columns)
        for ax, (name, of_modality) in zip(axes, images.items(), strict=False):
            show_image(ax, of_modality[case])
            ax.set_title(name, fontsize=8)
        for ax, (name, labels) in zip(
            axes[len(images) :], answers.items(), strict=False
        ):
            show_image(ax, first[case])
            ax.imshow(_coloured(labels[case]), interpolation="nearest")
            ax.set_title(wrapped_caption(name, 22), fontsize=8)
        if entropy is not None:
            axes[-1].imshow(entropy[case], vmin=0, vmax=entropy.max(), cmap="inferno")
            axes[-1].set(xticks=[], yticks=[])
            axes[-1].grid(False)
            axes[-1].set_title("entropy", fontsize=8)
        if captions is not None:
            row.suptitle(
                wrapped_caption(captions[case], 26 * columns),
                x=0.01,
                ha="left",
                fontsize=9,
            )
    handles = [
        Patch(color=_colour(label), label=name)
        for label, name in enumerate(class_names)
        if label
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(len(handles), 4)
    )
    figure.suptitle(title)
    return figure


@styled
def dice_by_case(
    dice: Mapping[str, Sequence[float]], title: str | None = None
) -> Figure:
    """The Dice of every case, region by region, with the median and the quartiles.

    Args:
        dice: Region to the Dice of each case, 0 to 1.
        title: Title.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no case, or a number is outside 0..1.
    """
    if not dice or any(not len(values) for values in dice.values()):
        raise ValueError("Expected the Dice of at least one case for each region.")
    figure = HouseFigure(figsize=(5.2, 0.55 * len(dice) + 1.1))
    ax = figure.subplots()
    places = np.arange(len(dice))[::-1]
    generator = np.random.default_rng(0)
    for place, (name, values) in zip(places, dice.items(), strict=True):
        values = np.asarray(values, "float64")
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(
                f"The Dice of {name!r} must lie in 0..1. Received: values from "
                f"{values.min()} to {values.max()}."
            )
        height = place + generator.uniform(-0.22, 0.22, len(values))
        ax.scatter(values, height, s=9, color=BLUE, alpha=0.35, linewidths=0)
        low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
        ax.plot([low, high], [place, place], color=GREY, linewidth=5, alpha=0.6)
        ax.plot([middle], [place], "o", color="white", markeredgecolor=GREY)
    ax.set(xlim=(-0.02, 1.02), xlabel="Dice", ylim=(-0.6, len(dice) - 0.4))
    ax.set_yticks(places, list(dice))
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", color=FAINT)
    figure.suptitle(title)
    return figure


def _colour(label):
    return to_rgb(PALETTE[(label - 1) % len(PALETTE)])


def _coloured(labels):
    """The colours of label maps, `(height, width, 4)`; the background is clear."""
    colours = np.zeros((*labels.shape, 4))
    for label in np.unique(labels[labels > 0]):
        colours[labels == label] = (*_colour(label), _COVER)
    colours[labels < 0] = (*to_rgb(FAINT), _COVER)
    return colours
