"""Pairs of images side by side, to be judged by eye."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from drifa_keras.data._checks import check_count
from drifa_keras.data.images import read_image

_GAP = 8
_LINE = 14
_PAPER, _INK, _FAINT = (255, 255, 255), (20, 20, 20), (200, 200, 200)


def contact_sheet(
    pairs: Sequence[Sequence],
    images: Sequence[str | os.PathLike | np.ndarray | None],
    *,
    names: Sequence[str] | None = None,
    tile: int = 160,
    columns: int = 2,
    limit: int = 24,
) -> Image.Image:
    """Draw pairs of images side by side, with file names and scores.

    Args:
        pairs: (first, second), (first, second, score) or (first, second, score,
            note): rows of `images`, a number and a text, as `Audit.worst` holds them.
        images: paths or uint8 arrays, such as `source.modalities[name]`.
        names: what the images are called; the end of the path by default.
        tile: side of the square that an image is fitted into.
        columns: pairs beside each other.
        limit: pairs drawn at most, from the first on.

    Returns:
        An RGB image of `columns * (2 * tile + 24)` by `rows * (tile + 50) + 8`
        pixels, which has no column or row that would stay empty.
    """
    tile, columns, limit = (
        check_count(value, what)
        for value, what in ((tile, "tile"), (columns, "columns"), (limit, "limit"))
    )
    pairs = list(pairs)[:limit]
    if not pairs:
        raise ValueError(
            "contact_sheet got no pairs: expected at least one; an audit that found "
            "none has nothing to show."
        )
    for pair in pairs:
        if not all(0 <= row < len(images) for row in pair[:2]):
            raise ValueError(
                f"contact_sheet got the pair ({pair[0]}, {pair[1]}): expected rows of "
                f"the {len(images)} images."
            )
    columns = min(columns, len(pairs))
    rows = -(-len(pairs) // columns)
    wide, high = 2 * tile + 3 * _GAP, tile + 3 * _LINE + _GAP
    sheet = Image.new("RGB", (columns * wide, rows * high + _GAP), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for number, pair in enumerate(pairs):
        left, top = number % columns * wide + _GAP, number // columns * high + _GAP
        for side, row in enumerate(pair[:2]):
            x = left + side * (tile + _GAP)
            picture = _picture(images[row], tile)
            sheet.paste(
                picture,
                (x + (tile - picture.width) // 2, top + (tile - picture.height) // 2),
            )
            draw.rectangle((x - 1, top - 1, x + tile, top + tile), outline=_FAINT)
            name = _name(images[row], row) if names is None else str(names[row])
            draw.text((x, top + tile + 2), _fit(name, tile, font), _INK, font)
        text = " ".join(
            [*(f"{v:.3f}" for v in pair[2:3]), *(str(v) for v in pair[3:4])]
        )
        place = (left, top + tile + 2 + _LINE)
        draw.text(place, _fit(text, 2 * tile + _GAP, font), _INK, font)
    return sheet


def _picture(image, tile: int) -> Image.Image:
    if isinstance(image, (str, os.PathLike)):
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*is black everywhere")
                image = read_image(image)
        except ValueError:
            image = None
    if image is None:
        return Image.new("RGB", (tile, tile), _FAINT)
    pixels = np.broadcast_to(image, (*image.shape[:2], 3))
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    scale = tile / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def _name(image, row: int) -> str:
    return (
        os.path.basename(image) if isinstance(image, (str, os.PathLike)) else str(row)
    )


def _fit(text: str, width: int, font) -> str:
    """Cut the front off, as the ends of file names differ."""
    # The built-in font draws only Latin letters.
    text = text.encode("latin-1", "replace").decode("latin-1")
    if font.getlength(text) <= width:
        return text
    while text and font.getlength("..." + text) > width:
        text = text[1:]
    return "..." + text
