"""The style that every figure is drawn in."""

import io

import matplotlib
import numpy as np
import pytest
from PIL import Image

from drifa_keras.report import figures, to_png
from drifa_keras.report.style import PALETTE, line_styles, to_webp, wrapped

COUNTS = [[5, 1], [2, 6]]


def test_whoever_draws_gets_the_same_figure():
    figure = figures.roc_curves([0, 1], np.eye(2), ["a", "b"])
    expected = to_png(figure)
    user = {"font.size": 30, "xtick.labelsize": 30, "axes.facecolor": "red"}
    with matplotlib.rc_context(user):
        other = figures.roc_curves([0, 1], np.eye(2), ["a", "b"])
        assert to_png(other) == expected
    third, file = figures.roc_curves([0, 1], np.eye(2), ["a", "b"]), io.BytesIO()
    with matplotlib.rc_context(user):
        third.savefig(file, format="png")
    assert file.getvalue() == expected


def test_png_has_the_size_of_the_figure():
    figure = figures.confusion_matrix(COUNTS, ["a", "b"])
    with Image.open(io.BytesIO(to_png(figure))) as image:
        assert image.format == "PNG"
        inches = np.divide(image.size, figure.dpi)
        np.testing.assert_allclose(inches, figure.get_size_inches(), atol=0.01)


def test_jupyter_shows_a_figure():
    figure, same = (figures.confusion_matrix(COUNTS, ["a", "b"]) for _ in range(2))
    assert figure._repr_png_() == to_png(same)


@pytest.mark.parametrize("photographs", [False, True])
def test_webp_has_twice_the_pixels_of_a_page(photographs):
    figure = figures.confusion_matrix(COUNTS, ["a", "b"])
    with Image.open(io.BytesIO(to_webp(figure, photographs))) as image:
        inches = np.divide(image.size, 2 * 96)
        np.testing.assert_allclose(inches, figure.get_size_inches(), atol=0.01)


def test_palette_is_told_apart_by_the_colour_blind():
    """Distances in the colours that protanopes and deuteranopes see.

    The matrices are of Viénot, Brettel and Mollon, 1999, for linear RGB.
    """
    protan = [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]
    deutan = [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]
    colours = np.array([matplotlib.colors.to_rgb(colour) for colour in PALETTE])
    linear = ((colours + 0.055) / 1.055) ** 2.4
    for matrix in (np.eye(3), protan, deutan):
        seen = np.clip(linear @ np.transpose(matrix), 0, 1) ** (1 / 2.4)
        apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1)
        assert apart[np.triu_indices(len(seen), 1)].min() > 0.1


def test_lines_differ_as_long_as_they_can():
    styles = line_styles(28)
    assert len({tuple(style.items()) for style in styles}) == 28
    assert line_styles(29)[28] == styles[0]


def test_legend_fits_whatever_the_names():
    figure = figures.roc_curves([0, 1], np.eye(2), ["x" * 80, "_y"])
    figure.draw_without_rendering()
    (legend,) = figure.legends
    extent = legend.get_window_extent()
    assert extent.x0 >= 0 and extent.x1 <= figure.bbox.width
    assert extent.y1 < figure.axes[0].get_window_extent().y0


def test_long_names_are_cut():
    assert wrapped("one two three", 8) == "one two\nthree"
    assert wrapped("one two three four", 9, most_lines=1) == "one two …"
    assert wrapped(" ", 8) == " "
