"""One style for every figure of the package."""

from __future__ import annotations

import functools
import io
import textwrap
from collections.abc import Sequence

from cycler import cycler
from matplotlib import style
from matplotlib.figure import Figure

# Okabe and Ito, *Color Universal Design*, 2008: told apart with every common kind of
# colour vision. Its yellow is left out, as it cannot be read on white.
BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
PURPLE, SKY, ORANGE, GREY = "#CC79A7", "#56B4E9", "#E69F00", "#5F6368"
PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, SKY, ORANGE, GREY)
FAINT = "#D8DADD"

# More classes than colours are told apart by their dashes.
_CYCLE = cycler(linestyle=["-", "--", ":", "-."]) * cycler(color=PALETTE)

STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.prop_cycle": _CYCLE,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "figure.constrained_layout.use": True,
    "figure.dpi": 120,
    "figure.facecolor": "white",
    "figure.titlesize": 11.5,
    "font.size": 9.5,
    "grid.color": "#ECEDEF",
    "image.cmap": "viridis",
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    # Names of classes and files are text, whatever they contain.
    "text.parse_math": False,
}


class HouseFigure(Figure):
    """A figure that no pyplot holds on to, always drawn in the style of the package.

    Jupyter shows it where it is the last expression of a cell, or by `display`.
    """

    def draw(self, renderer):
        # Ticks are made, and take their style, when they are first drawn.
        with house_style():
            super().draw(renderer)

    def _repr_png_(self) -> bytes:
        return to_png(self)


def styled(draw):
    """Makes a function that draws a figure do so in the style of the package."""

    @functools.wraps(draw)
    def wrapper(*args, **kwargs):
        with house_style():
            return draw(*args, **kwargs)

    return wrapper


def house_style():
    """A context in which matplotlib draws in the style of the package."""
    return style.context(STYLE, after_reset=True)


def line_styles(count: int) -> list[dict[str, str]]:
    """`count` dicts of `color` and `linestyle`, one a class."""
    known = list(_CYCLE)
    return [known[k % len(known)] for k in range(count)]


def legend_below(figure: Figure, handles, labels: Sequence[str]) -> None:
    """Adds a legend below the axes, in as many columns as there is room for.

    The figure grows by the height of the legend, so that the axes keep theirs. What
    the names contain does not matter, nor that one starts with an underscore.
    """
    for columns in range(min(len(labels), 6), 0, -1):
        legend = figure.legend(
            handles, labels, loc="outside lower center", ncols=columns
        )
        extent = legend.get_window_extent()
        if extent.width <= figure.bbox.width or columns == 1:
            break
        legend.remove()
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + extent.height / figure.dpi)


def wrapped(name: str, width: int, most_lines: int = 3) -> str:
    """A name on several lines, cut where it is still too long."""
    lines = textwrap.wrap(str(name), width, max_lines=most_lines, placeholder=" …")
    return "\n".join(lines) or str(name)


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    return _saved(figure, format="png")


def to_webp(figure: Figure, photographs: bool = False) -> bytes:
    """The figure as a WebP file of twice the pixels that a browser needs.

    Lines stay as they are, at a third of the size of a PNG. Where the figure is made
    of photographs, these lose what no one sees.
    """
    options = {"quality": 75} if photographs else {"lossless": True}
    return _saved(figure, format="webp", dpi=192, pil_kwargs=options)


def _saved(figure, **options):
    file = io.BytesIO()
    with house_style():
        figure.savefig(file, **options)
    return file.getvalue()
