"""Images, and where in them a network looks."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from drifa_keras.report.style import FAINT, GREY, HouseFigure, styled

# Inches of an image.
SIDE = 1.6


@styled
def image_grid(
    images: Mapping[str, np.ndarray],
    captions: Sequence[str] | None = None,
    title: str | None = None,
    columns: int = 4,
) -> Figure:
    """Cases in a grid, the images of their modalities below each other.

    Args:
        images: Modality to images `(n, height, width, channels)` of 0..255. An image
            of zeros is an absent one.
        captions: Text above each case, `(n,)`.
        title: Title.
        columns: Cases beside each other, at most.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no image, or the lengths differ.
    """
    count = count_cases(images, captions)
    columns = min(columns, count)
    blocks = -(-count // columns)
    figure = HouseFigure(
        figsize=(
            max(SIDE * columns + 0.3, 3.2),
            (SIDE * len(images) + 0.4) * blocks + 0.3,
        )
    )
    grid = figure.subplots(blocks * len(images), columns, squeeze=False)
    for ax in grid.flat:
        ax.set_axis_off()
    for case in range(count):
        block, column = divmod(case, columns)
        for offset, (modality, of_modality) in enumerate(images.items()):
            ax = grid[block * len(images) + offset, column]
            show_image(ax, of_modality[case])
            if column == 0 and len(images) > 1:
                ax.set_ylabel(modality)
            if offset == 0 and captions is not None:
                ax.set_title(
                    wrapped_caption(captions[case], 27), fontsize=7, loc="center"
                )
    figure.suptitle(title)
    return figure


@styled
def grad_cam_panels(
    images: Mapping[str, np.ndarray],
    maps: Mapping[str, np.ndarray],
    captions: Sequence[str] | None = None,
    title: str | None = None,
    share: float = 0.5,
) -> Figure:
    """What an answer rests on: the image, the map over it, a box around the region.

    As Fig. 4 of Dhar et al., *Multimodal Fusion Learning with Dual Attention for
    Medical Imaging*, WACV 2025: one row a case, three columns a modality.

    Args:
        images: Modality to images `(n, height, width, channels)` of 0..255. An image
            of zeros is an absent one.
        maps: Modality to maps `(n, rows, columns)`, at least 0, of any resolution;
            modalities without maps are left out. The colours of each map end at its
            own largest value.
        captions: Text above each row, `(n,)`.
        title: Title.
        share: The box holds the connected region around the largest value in which the
            map reaches this share of it.

    Returns:
        The figure. A map of zeros is not drawn, and gets no box.

    Raises:
        ValueError: If there is no image, the lengths differ, or a map has no image.
    """
    unknown = sorted(set(maps) - set(images))
    if unknown:
        raise ValueError(
            f"There are maps of {unknown[0]!r} but no images. Images: {sorted(images)}."
        )
    images = {name: images[name] for name in images if name in maps}
    count = count_cases(
        {**images, **{f"map {name}": maps[name] for name in maps}}, captions
    )
    figure = HouseFigure(
        figsize=(max(SIDE * 3 * len(images), 4.8), (SIDE + 0.35) * count + 0.4)
    )
    rows = figure.subfigures(count, 1, squeeze=False)[:, 0]
    for case, row in enumerate(rows):
        axes = row.subplots(1, 3 * len(images))
        for place, (name, of_modality) in enumerate(images.items()):
            image, heat = of_modality[case], np.asarray(maps[name][case], "float64")
            plain, overlay, boxed = axes[3 * place : 3 * place + 3]
            for ax in (plain, overlay, boxed):
                show_image(ax, image)
            if np.any(image) and heat.max() > 0:
                _overlay(overlay, heat, image.shape)
                boxed.add_patch(_box(heat, image.shape, share))
            plain.set_title(name, fontsize=8)
        if captions is not None:
            row.suptitle(
                wrapped_caption(captions[case], 26 * len(axes)),
                x=0.01,
                ha="left",
                fontsize=9,
            )
    figure.suptitle(title)
    return figure


@styled
def grad_cam_comparison(
    images: np.ndarray,
    maps: Mapping[str, np.ndarray],
    captions: Sequence[str],
    answers: Mapping[str, Sequence[str]] | None = None,
    title: str | None = None,
    share: float = 0.5,
) -> Figure:
    """What the answers of several networks to the same images rest on.

    As Fig. 4 of Dhar et al., *Multimodal Fusion Learning with Dual Attention for
    Medical Imaging*, WACV 2025, turned: one row an image, one column a network.

    Args:
        images: `(n, height, width, channels)` of 0..255.
        maps: Network to maps `(n, rows, columns)`, at least 0, of any resolution. The
            colours of each map end at its own largest value.
        captions: Text beside each row, `(n,)`.
        answers: Network to what is written below each of its maps, `(n,)`.
        title: Title.
        share: As in `grad_cam_panels`.

    Returns:
        The figure. A map of zeros is not drawn, and gets no box.

    Raises:
        ValueError: If there is no image, or the lengths differ.
    """
    answers = answers or {}
    count = count_cases({"images": images, **maps}, captions)
    for name, texts in answers.items():
        count_cases({"images": images, f"answers of {name}": texts}, None)
    figure = HouseFigure(
        figsize=(SIDE * (1 + len(maps)) + 0.4, (SIDE + 0.2) * count + 0.5)
    )
    grid = figure.subplots(count, 1 + len(maps), squeeze=False)
    for axes, image, caption in zip(grid, images, captions, strict=True):
        show_image(axes[0], image)
        axes[0].set_ylabel(wrapped_caption(caption, 26), fontsize=8)
    for column, (name, of_network) in enumerate(maps.items(), start=1):
        for case, heat in enumerate(np.asarray(of_network, "float64")):
            ax = grid[case, column]
            show_image(ax, images[case])
            if np.any(images[case]) and heat.max() > 0:
                _overlay(ax, heat, images[case].shape)
                ax.add_patch(_box(heat, images[case].shape, share))
            if name in answers:
                ax.set_xlabel(wrapped_caption(answers[name][case], 24), fontsize=7)
        grid[0, column].set_title(wrapped_caption(name, 22), fontsize=8, loc="center")
    figure.suptitle(title)
    return figure


def show_image(ax, image):
    """Draws one image, in colour or in grey, without axes."""
    image = np.asarray(image, "float32")
    ax.set_axis_on()
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set(visible=True, color=FAINT)
    if not image.any():
        ax.set(facecolor=FAINT, box_aspect=image.shape[0] / image.shape[1])
        centre = {"ha": "center", "va": "center", "transform": ax.transAxes}
        ax.text(0.5, 0.5, "absent", color=GREY, **centre)
        return
    colours = image if image.shape[-1] == 3 else image[..., :1].repeat(3, axis=-1)
    ax.imshow(np.clip(colours / 255, 0, 1), interpolation="nearest")


def _overlay(ax, heat, shape):
    """Draws a map over an image; where it is 0, the image shows through."""
    heat = np.clip(heat / heat.max(), 0, 1)
    ax.imshow(
        heat,
        vmin=0,
        vmax=1,
        cmap="inferno",
        alpha=0.75 * np.sqrt(heat),
        extent=(-0.5, shape[1] - 0.5, shape[0] - 0.5, -0.5),
        interpolation="nearest",
    )


def _box(heat, shape, share):
    """The box around the region of the largest value, in pixels of the image."""
    from scipy.ndimage import find_objects, label

    regions, _ = label(heat >= share * heat.max())
    region = regions[np.unravel_index(heat.argmax(), heat.shape)]
    down, across = find_objects(regions)[region - 1]
    high, wide = shape[0] / heat.shape[0], shape[1] / heat.shape[1]
    return Rectangle(
        (across.start * wide - 0.5, down.start * high - 0.5),
        (across.stop - across.start) * wide,
        (down.stop - down.start) * high,
        fill=False,
        # Seen on light and on dark tissue.
        edgecolor="white",
        linewidth=1.4,
        path_effects=[withStroke(linewidth=3.4, foreground="black")],
    )


def count_cases(images, captions):
    """Number of cases, or a `ValueError` if there are not as many of everything."""
    lengths = {name: len(of_modality) for name, of_modality in images.items()}
    if captions is not None:
        lengths["captions"] = len(captions)
    if len(set(lengths.values())) != 1 or not min(lengths.values()):
        raise ValueError(
            "Expected as many images of each modality, and captions, as there are "
            f"cases, at least one. Received: {lengths or 'no images'}."
        )
    return min(lengths.values())


def wrapped_caption(text, width):
    """A caption in lines of at most `width` letters."""
    return "\n".join(
        textwrap.fill(line, width, max_lines=3) for line in str(text).splitlines()
    )
