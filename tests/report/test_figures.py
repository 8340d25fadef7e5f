"""Figures: that they show the numbers they are given."""

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from sklearn.metrics import average_precision_score, roc_auc_score

from drifa_keras import uncertainty
from drifa_keras.report import figures

NAMES = ["nevus", "_melanoma $x$", "<b>keratosis</b>"]


@pytest.fixture
def labelled():
    """90 labels of three classes, and probabilities that mostly fit."""
    rng = np.random.default_rng(0)
    y_true = rng.integers(3, size=90)
    probabilities = np.exp(rng.normal(size=(90, 3)) + 1.5 * np.eye(3)[y_true])
    return y_true, probabilities / probabilities.sum(axis=1, keepdims=True)


def texts(figure):
    """All that is written in a figure."""
    return [text.get_text() for text in figure.findobj(pyplot.Text) if text.get_text()]


def labels(figure):
    """The entries of its legends."""
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes)]
    return [text.get_text() for one in legends if one for text in one.get_texts()]


def each_figure(labelled):
    """One figure of each kind."""
    y_true, probabilities = labelled
    images = {"skin": np.full((2, 8, 8, 3), 90), "ct": np.full((2, 8, 8, 1), 60)}
    yield figures.training_curves({"loss": [2, 1], "val_loss": [3, 2]})
    yield figures.confusion_matrix(np.eye(3, dtype=int), NAMES)
    yield figures.roc_curves(y_true, probabilities, NAMES)
    yield figures.precision_recall_curves(y_true, probabilities, NAMES)
    diagram = uncertainty.reliability_diagram(y_true, probabilities)
    yield figures.reliability_diagram({"before": diagram})
    curve = uncertainty.risk_coverage_curve(y_true, probabilities)
    yield figures.risk_coverage({"by confidence": curve})
    yield figures.entropy_histogram(np.arange(3) / 3, [True, True, False], 3)
    yield figures.image_grid(images)
    yield figures.grad_cam_panels(images, {"skin": np.ones((2, 2, 2))})
    maps = {"one": np.ones((2, 2, 2)), "two": np.zeros((2, 4, 4))}
    yield figures.grad_cam_comparison(images["skin"], maps, ["a", "b"])
    points = np.zeros((90, 2))
    yield figures.tsne_scatter(points, y_true, probabilities.argmax(axis=1), NAMES)
    yield figures.tsne_comparison({"one": points, "two": points}, y_true, NAMES)
    y = np.ones((2, 8, 8), int)
    yield figures.label_map_panels(images, y, y, NAMES, entropy=y / 2)
    yield figures.dice_by_case({"WT": [0.5, 0.7], "ET": [1.0, 0.0]})
    yield figures.accuracy_curves({"FGSM": [[0, 0.5, 0.4, 0.6]]}, "steps")
    yield figures.adversarial_examples(images, images, 4 / 255)


def test_figures_leave_no_trace(labelled):
    settings, held = dict(pyplot.rcParams), pyplot.get_fignums()
    for figure in each_figure(labelled):
        assert isinstance(figure, Figure)
    assert pyplot.get_fignums() == held
    assert dict(pyplot.rcParams) == settings


def test_training_curves_draw_every_column():
    history = {
        "epoch": [0, 1, 2],
        "loss": [3, 2, 1],
        "skin_lesion_loss": [2, 1, 0],
        "ct_loss": [4, 3, 2],
        "val_ct_loss": [5, np.nan, 3],
        "ct_accuracy": [0.1, 0.2, 0.3],
        "learning_rate": [1, 1, 1],
    }
    figure = figures.training_curves(history, best_epoch=2)
    drawn = {ax.get_title("left"): ax for ax in figure.axes}
    assert list(drawn) == ["loss", "accuracy"]
    lines = [line.get_ydata() for line in drawn["loss"].lines if len(line.get_ydata())]
    for name in ("loss", "skin_lesion_loss", "ct_loss", "val_ct_loss"):
        assert any(
            np.array_equal(line, history[name], equal_nan=True) for line in lines
        )
    assert set(labels(figure)) == {
        "all tasks",
        "ct",
        "skin_lesion",
        "training",
        "validation",
        "best epoch",
    }


def test_training_curves_of_one_task_leave_out_the_total():
    figure = figures.training_curves({"loss": [2, 1], "ct_loss": [2, 1]})
    assert len(figure.axes[0].lines) == 1


def test_training_curves_of_one_epoch_show_a_point():
    figure = figures.training_curves({"loss": [2.0]})
    (line,) = figure.axes[0].lines
    assert line.get_marker() == "o"
    assert 1 in figure.axes[0].get_xticks()


def test_confusion_matrix_gives_counts_and_shares():
    counts = [[30, 10, 0], [0, 0, 0], [1, 0, 1999]]
    written = texts(figures.confusion_matrix(counts, NAMES))
    assert {"30\n75%", "10\n25%", "1\n0%", "1,999\n100%"} <= set(written)
    # The class without an image has no shares, not shares of nothing.
    assert written.count("0") == 5
    assert not [text for text in written if "nan" in text]


def test_roc_curves_give_the_area(labelled):
    y_true, probabilities = labelled
    found = labels(figures.roc_curves(y_true, probabilities, NAMES))
    for k, name in enumerate(NAMES):
        area = roc_auc_score(y_true == k, probabilities[:, k])
        assert f"{name}\nAUC {area:.3f}" in found


def test_precision_recall_curves_give_the_average_and_the_share(labelled):
    y_true, probabilities = labelled
    found = labels(figures.precision_recall_curves(y_true, probabilities, NAMES))
    for k, name in enumerate(NAMES):
        area = average_precision_score(y_true == k, probabilities[:, k])
        assert f"{name}\nAP {area:.3f}, share {np.mean(y_true == k):.3f}" in found


@pytest.mark.parametrize("draw", [figures.roc_curves, figures.precision_recall_curves])
def test_curves_say_which_class_has_none(draw):
    found = labels(draw([0, 0], [[0.9, 0.1], [0.8, 0.2]], ["there", "absent"]))
    assert found == ["there\nevery image", "absent\nno image"]


def test_reliability_diagram_gives_the_calibration_error(labelled):
    diagram = uncertainty.reliability_diagram(*labelled, bins=10)
    error = uncertainty.expected_calibration_error(*labelled, bins=10)
    figure = figures.reliability_diagram({"before": diagram, "after": diagram})
    assert labels(figure) == [f"before (ECE {error:.3f})", f"after (ECE {error:.3f})"]
    line = figure.axes[0].lines[1]
    np.testing.assert_array_equal(line.get_ydata(), diagram.accuracy[diagram.count > 0])


def test_risk_coverage_ends_at_the_share_of_errors(labelled):
    y_true, probabilities = labelled
    curve = uncertainty.risk_coverage_curve(y_true, probabilities)
    figure = figures.risk_coverage({"network": curve}, target_risk=0.05)
    wrong = np.mean(probabilities.argmax(axis=1) != y_true)
    assert figure.axes[0].lines[0].get_ydata()[-1] == pytest.approx(wrong)
    area = uncertainty.aurc(y_true, probabilities)
    assert labels(figure) == [f"network (AURC {area:.3f})", "target risk 5%"]


def test_entropy_histogram_shares_sum_to_one():
    figure = figures.entropy_histogram([0.1, 0.2, 0.2, 0.6], [1, 1, 1, 0], classes=2)
    for patch in figure.axes[0].patches:
        assert patch.get_data().values.sum() == pytest.approx(1)
        assert patch.get_data().edges[-1] == pytest.approx(np.log(2))
    assert labels(figure) == ["right (3)", "wrong (1)"]


def test_entropy_histogram_without_errors_or_entropy():
    figure = figures.entropy_histogram([0.0, 0.0], [True, True])
    assert labels(figure) == ["right (2)", "wrong (0)"]


def test_image_grid_shows_the_pixels():
    rng = np.random.default_rng(0)
    images = {
        "skin": rng.integers(1, 256, (5, 6, 8, 3)).astype("uint8"),
        "ct": rng.integers(1, 256, (5, 6, 8, 1)).astype("float32"),
    }
    images["skin"][4] = 0
    captions = [f"case {k}: $n_x$" for k in range(5)]
    figure = figures.image_grid(images, captions, columns=3)
    shown = [image.get_array() for ax in figure.axes for image in ax.images]
    assert len(shown) == 9
    np.testing.assert_allclose(shown[0], images["skin"][0] / 255, atol=1e-6)
    of_ct = np.repeat(images["ct"][0], 3, axis=-1) / 255
    assert any(np.allclose(image, of_ct, atol=1e-6) for image in shown)
    written = texts(figure)
    assert written.count("absent") == 1
    assert set(captions) <= set(written)


def test_grad_cam_box_holds_the_region_of_the_largest_value():
    heat = np.zeros((1, 8, 8))
    heat[0, 1:4, 5:7] = 0.6
    heat[0, 2, 5] = 1.0
    heat[0, 6, 0] = 0.9  # another region
    heat[0, 1:4, 4] = 0.4  # too weak
    images = {"skin": np.full((1, 32, 32, 3), 99), "ct": np.full((1, 32, 32, 1), 99)}
    figure = figures.grad_cam_panels(
        images, {"skin": heat, "ct": np.zeros((1, 8, 8))}, ["a case"]
    )
    boxes = [
        patch
        for ax in figure.findobj(pyplot.Axes)
        for patch in ax.patches
        if isinstance(patch, Rectangle)
    ]
    (box,) = boxes  # a map of zeros has none
    assert box.get_bbox().bounds == (19.5, 3.5, 8, 12)


def test_tsne_counts_classes_and_errors():
    figure = figures.tsne_scatter(
        np.zeros((4, 2)), [0, 0, 1, 1], [0, 0, 1, 0], ["a", "b", "c"]
    )
    assert labels(figure) == ["a (2)", "b (2)", "c (0)", "right (3)", "wrong (1)"]


def test_grad_cam_of_several_networks_is_one_row_an_image():
    images = np.full((2, 8, 8, 3), 99)
    heat = np.zeros((2, 4, 4))
    heat[0, 1, 2] = 1.0
    figure = figures.grad_cam_comparison(
        images,
        {"One $x$": heat, "Two": heat * 0},
        ["nevus", "_mole"],
        {"One $x$": ["nevus 0.91", "nevus 0.52"]},
    )
    assert len(figure.axes) == 2 * 3
    assert {"One $x$", "Two", "nevus", "_mole", "nevus 0.52"} <= set(texts(figure))
    boxed = [ax for ax in figure.axes if ax.patches]
    (box,) = boxed[0].patches
    assert boxed == [figure.axes[1]]
    assert box.get_bbox().bounds == (3.5, 1.5, 2, 2)


def test_tsne_of_several_networks_has_a_panel_each():
    rng = np.random.default_rng(0)
    points = {f"network {k}": rng.normal(size=(6, 2)) for k in range(5)}
    figure = figures.tsne_comparison(points, [0, 0, 0, 1, 1, 0], ["a", "b"], columns=3)
    assert labels(figure) == ["a (4)", "b (2)"]
    shown = [ax for ax in figure.axes if ax.get_title("left")]
    assert [ax.get_title("left") for ax in shown] == list(points)
    drawn = [collection.get_offsets() for collection in shown[3].collections]
    np.testing.assert_allclose(drawn[1], points["network 3"][[3, 4]])


def test_accuracy_curves_show_every_curve_and_interval():
    same = [[0, 0.9, 0.8, 0.95], [4, 0.5, 0.375, 0.625], [8, 0.0, 0.0, 0.125]]
    curves = {"FGSM": same, "PGD $x$": same, "_all": [same[2], same[0]]}
    figure = figures.accuracy_curves(curves, "change", {4: "four"}, title="skin")
    (ax,) = figure.axes
    assert labels(figure) == list(curves)
    assert {"skin", "change", "accuracy"} <= set(texts(figure))
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0", "four", "8"]
    taken = set()
    for line, bars, curve in zip(
        ax.lines, ax.collections, curves.values(), strict=True
    ):
        strength, accuracy, low, high = np.transpose(curve)
        np.testing.assert_array_equal(line.get_ydata(), accuracy)
        places = line.get_xdata()
        # Near the tick of their strength, where no other curve is.
        np.testing.assert_array_equal(np.round(places), strength / 4)
        assert not taken & set(places)
        taken |= set(places)
        ends = np.stack([[places, low], [places, high]]).transpose(2, 0, 1)
        np.testing.assert_allclose(bars.get_segments(), ends)
    assert len({line.get_color() for line in ax.lines}) == 3


def test_adversarial_examples_show_the_change():
    rng = np.random.default_rng(0)
    clean = {
        "skin": rng.integers(60, 200, (2, 6, 8, 3)).astype("float32"),
        "ct": rng.integers(60, 200, (2, 6, 8, 1)).astype("float32"),
    }
    steps = {name: rng.uniform(-4, 4, images.shape) for name, images in clean.items()}
    attacked = {name: clean[name] + steps[name] for name in clean}
    captions = ["nevus becomes $x_2$", "nevus stays"]
    figure = figures.adversarial_examples(clean, attacked, 4 / 255, captions)
    shown = [image.get_array() for image in figure.findobj(AxesImage)]
    wanted = [
        images[name][case] / scale + middle
        for case in range(2)
        for name in clean
        for images, scale, middle in (
            (clean, 255, 0),
            (steps, 8, 0.5),  # black is -4, grey 0, white 4
            (attacked, 255, 0),
        )
    ]
    assert len(shown) == len(wanted) == 12
    for one, other in zip(shown, wanted, strict=True):
        colours = np.broadcast_to(other, (6, 8, 3))
        np.testing.assert_allclose(one, colours, atol=1e-5)
    written = texts(figure)
    assert {*captions, "skin", "ct", "change x 32", "after"} <= set(written)


@pytest.mark.parametrize("count", [2, 20])
def test_classes_are_told_apart(count):
    y = np.arange(count)
    figure = figures.roc_curves(y, np.eye(count), [f"class {k}" for k in y])
    lines = figure.axes[0].lines[:count]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == count
    figure = figures.tsne_scatter(np.zeros((count, 2)), y, y, list(map(str, y)))
    dots = figure.axes[0].collections[::2]
    looks = {(*d.get_facecolor()[0], d.get_paths()[0].vertices.tobytes()) for d in dots}
    assert len(looks) == count


@pytest.mark.parametrize(
    ("draw", "arguments", "message"),
    [
        (figures.training_curves, [{"epoch": [0]}], "at least one epoch"),
        (figures.training_curves, [{"loss": []}], "at least one epoch"),
        (figures.confusion_matrix, [np.eye(3), ["a", "b"]], r"\(3, 3\)"),
        (figures.roc_curves, [[0, 1], np.eye(2), ["a"]], r"\(2, 1\)"),
        (figures.precision_recall_curves, [[0], np.eye(2), ["a", "b"]], r"\(1, 2\)"),
        (figures.reliability_diagram, [{}], "at least one diagram"),
        (figures.risk_coverage, [{}], "at least one curve"),
        (figures.entropy_histogram, [[0.1, 0.2], [True]], "boolean for each"),
        (figures.entropy_histogram, [[], []], "at least one image"),
        (figures.image_grid, [{}], "no images"),
        (figures.image_grid, [{"a": np.zeros((0, 2, 2, 1))}], "at least one"),
        (figures.image_grid, [{"a": np.zeros((2, 2, 2, 1))}, ["one"]], "captions"),
        (
            figures.grad_cam_panels,
            [{"a": np.ones((1, 2, 2, 1))}, {"b": np.ones((1, 2, 2))}],
            "maps of 'b' but no images",
        ),
        (
            figures.grad_cam_panels,
            [{"a": np.ones((1, 2, 2, 1))}, {"a": np.ones((2, 2, 2))}],
            "'map a': 2",
        ),
        (figures.accuracy_curves, [{}, "steps"], r"Received: \{\}"),
        (
            figures.accuracy_curves,
            [{"FGSM": [[1, 0.5]]}, "steps"],
            r"'FGSM': \(1, 2\)",
        ),
        (figures.accuracy_curves, [{"FGSM": np.ones((0, 4))}, "eps"], r"\(0, 4\)"),
        (figures.adversarial_examples, [{}, {}, 0.1], "no images"),
        (
            figures.adversarial_examples,
            [{"a": np.ones((2, 2, 2, 1))}, {"a": np.ones((1, 2, 2, 1))}, 0.1],
            "'attacked a': 1",
        ),
        (
            figures.adversarial_examples,
            [{"a": np.ones((1, 2, 2, 1))}, {"b": np.ones((1, 2, 2, 1))}, 0.1],
            r"attacked images of \['b'\], clean ones of \['a'\]",
        ),
        (
            figures.adversarial_examples,
            [{"a": np.ones((1, 2, 2, 1))}, {"a": np.ones((1, 2, 2, 1))}, 0],
            "`eps` must be more than 0",
        ),
        (
            figures.tsne_comparison,
            ({"one": np.zeros((3, 2)), "two": np.zeros((2, 2))}, [0, 0, 0], ["a"]),
            r"points \(3, 2\)",
        ),
        (
            figures.grad_cam_comparison,
            (np.zeros((2, 4, 4, 3)), {"one": np.zeros((1, 2, 2))}, ["a", "b"]),
            "as many images",
        ),
        (figures.tsne_scatter, [np.zeros((2, 3)), [0, 1], [0, 1], ["a", "b"]], "2, 3"),
    ],
)
def test_bad_input(draw, arguments, message):
    with pytest.raises(ValueError, match=message):
        draw(*arguments)


def test_label_maps_are_drawn_where_they_are():
    images = {"flair": np.full((1, 4, 4, 1), 80), "t2": np.full((1, 4, 4, 1), 70)}
    y_true, y_pred = np.zeros((1, 4, 4), int), np.zeros((1, 4, 4), int)
    y_true[0, 1, 2], y_true[0, 3, 3], y_pred[0, 0, 0] = 2, -1, 1
    figure = figures.label_map_panels(
        images, y_true, y_pred, ["none", "core", "rim"], ["case 7"], entropy=y_pred
    )
    assert labels(figure) == ["core", "rim"]
    assert {"case 7", "flair", "t2", "truth", "prediction", "entropy"} <= set(
        texts(figure)
    )
    panels = figure.findobj(
        lambda artist: (
            isinstance(artist, AxesImage) and artist.get_array().shape == (4, 4, 4)
        )
    )
    truth, answer = (np.asarray(panel.get_array()) for panel in panels)
    np.testing.assert_array_equal(truth[..., 3] > 0, y_true[0] != 0)
    np.testing.assert_array_equal(answer[..., 3] > 0, y_pred[0] > 0)
    colours = {tuple(truth[1, 2]), tuple(truth[3, 3]), tuple(answer[0, 0])}
    assert len(colours) == 3


def test_label_maps_of_several_networks():
    image, y_true = np.full((1, 4, 4, 1), 80), np.ones((1, 4, 4), int)
    answers = {"U-Net": y_true * 0, "DRIFA-SegNet": y_true}
    figure = figures.label_map_panels({"flair": image}, y_true, answers, ["no", "yes"])
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == ["flair", "truth", "U-Net", "DRIFA-SegNet"]
    with pytest.raises(ValueError, match="U-Net"):
        wrong = {"U-Net": np.ones((2, 4, 4), int)}
        figures.label_map_panels({"flair": image}, y_true, wrong, ["no", "yes"])


def test_dice_of_each_case():
    figure = figures.dice_by_case({"WT": [0.2, 0.4, 0.9], "ET": [1.0, 0.0]})
    (ax,) = figure.axes
    dots = [np.sort(one.get_offsets()[:, 0]) for one in ax.collections]
    np.testing.assert_allclose(dots[0], [0.2, 0.4, 0.9])
    np.testing.assert_allclose(dots[1], [0.0, 1.0])
    assert {"WT", "ET", "Dice"} <= set(texts(figure))


@pytest.mark.parametrize(
    ("dice", "message"),
    [
        ({}, "at least one case"),
        ({"WT": []}, "at least one case"),
        ({"WT": [0.5, 1.2]}, "'WT' must lie in 0..1. Received: values from 0.5 to 1.2"),
    ],
)
def test_dice_that_cannot_be(dice, message):
    with pytest.raises(ValueError, match=message):
        figures.dice_by_case(dice)
