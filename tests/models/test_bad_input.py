"""Bad input: one line that names the culprit and the remedy, and nothing lost."""

import warnings

import keras
import numpy as np
import pytest

import drifa_keras as dk
from drifa_keras import DRIFANet
from harness import as_numpy

SIZE = 16
SKIN, CT = (SIZE, SIZE, 3), (SIZE, SIZE, 1)


@pytest.fixture(scope="module")
def model(make_plain, make_images, make_targets):
    """A compiled model, trained for one step so that everything is built."""
    model = make_plain()
    model.compile("adam", loss="categorical_crossentropy")
    model.train_on_batch(make_images(model), make_targets(model))
    return model


@pytest.fixture(scope="module")
def reference(model, make_images):
    return model.predict_on_batch(make_images(model))


@pytest.fixture
def unharmed(model, reference, make_images):
    """The weights are what they were, and the model still predicts."""
    before = [as_numpy(v) for v in model.variables]
    yield model
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(as_numpy(variable), value)
    outputs = model.predict_on_batch(make_images(model))
    for task, expected in reference.items():
        np.testing.assert_allclose(outputs[task], expected, atol=1e-6)


def assert_one_line(error, *parts):
    text = str(error.value)
    assert "\n" not in text.strip()
    for part in parts:
        assert part in text, f"{part!r} is not in {text!r}"


def as_dataset(*data):
    import tensorflow as tf

    data = data[0] if len(data) == 1 else data
    return tf.data.Dataset.from_tensor_slices(data).batch(2)


class Batches(keras.utils.PyDataset):
    def __init__(self, *data):
        super().__init__()
        self.data = data

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.data


def rename(data, old, new):
    return {new if name == old else name: value for name, value in data.items()}


def without(data, name):
    return {key: value for key, value in data.items() if key != name}


WRONG_KEYS = {
    "unknown modality": (
        lambda x, y: (rename(x, "skin", "skim"), y),
        ("modality 'skim'", "'ct', 'skin'", "Rename"),
    ),
    "extra modality": (
        lambda x, y: ({**x, "another": x["ct"]}, y),
        ("modality 'another'", "'ct', 'skin'", "leave out"),
    ),
    "missing modality": (
        lambda x, y: (without(x, "ct"), y),
        ("modality 'ct'", "drifa_keras.predict", "images of zeros"),
    ),
    "unknown task": (
        lambda x, y: (x, rename(y, "lesion", "tumour")),
        ("task in the targets 'tumour'", "'lesion', 'nodule'", "Rename"),
    ),
    "extra task": (
        lambda x, y: (x, {**y, "another": y["lesion"]}),
        ("task in the targets 'another'", "'lesion', 'nodule'", "leave out"),
    ),
    "missing task": (
        lambda x, y: (x, without(y, "lesion")),
        ("task in the targets 'lesion'", "'lesion', 'nodule'", "Add it"),
    ),
}
ROADS = {
    "fit": lambda model, x, y: model.fit(x, y, verbose=0),
    "fit a dataset": lambda model, x, y: model.fit(as_dataset(x, y), verbose=0),
    "fit a PyDataset": lambda model, x, y: model.fit(Batches(x, y), verbose=0),
    "evaluate": lambda model, x, y: model.evaluate(x, y, verbose=0),
    "evaluate a dataset": lambda model, x, y: model.evaluate(
        as_dataset(x, y), verbose=0
    ),
    "train_on_batch": lambda model, x, y: model.train_on_batch(x, y),
    "test_on_batch": lambda model, x, y: model.test_on_batch(x, y),
}


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("case", WRONG_KEYS)
def test_wrong_keys(case, road, unharmed, make_images, make_targets):
    spoil, parts = WRONG_KEYS[case]
    x, y = spoil(make_images(unharmed), make_targets(unharmed))
    with pytest.raises(ValueError) as error:
        ROADS[road](unharmed, x, y)
    assert_one_line(error, *parts)


@pytest.mark.parametrize("form", ["arrays", "dataset", "PyDataset"])
@pytest.mark.parametrize("case", WRONG_KEYS)
def test_wrong_keys_in_validation_data(case, form, unharmed, make_images, make_targets):
    images, targets = make_images(unharmed), make_targets(unharmed)
    spoil, parts = WRONG_KEYS[case]
    x, y = spoil(images, targets)
    validation = {
        "arrays": (x, y),
        "dataset": as_dataset(x, y),
        "PyDataset": Batches(x, y),
    }[form]
    with pytest.raises(ValueError) as error:
        unharmed.fit(images, targets, validation_data=validation, verbose=0)
    assert_one_line(error, *parts)


@pytest.mark.parametrize(
    "road",
    [
        lambda model, x: model.predict(x, verbose=0),
        lambda model, x: model.predict(as_dataset(x), verbose=0),
        lambda model, x: model.predict_on_batch(x),
        lambda model, x: model(x),
    ],
    ids=["predict", "predict a dataset", "predict_on_batch", "call"],
)
@pytest.mark.parametrize("case", [case for case in WRONG_KEYS if "modality" in case])
def test_wrong_modalities_in_prediction(case, road, unharmed, make_images):
    spoil, parts = WRONG_KEYS[case]
    x, _ = spoil(make_images(unharmed), {})
    with pytest.raises(ValueError) as error:
        road(unharmed, x)
    assert_one_line(error, *parts)


@pytest.mark.parametrize("road", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
def test_wrong_task_in_sample_weights(road, unharmed, make_images, make_targets):
    x, y = make_images(unharmed), make_targets(unharmed)
    silent = {"verbose": 0} if road in ("fit", "evaluate") else {}
    with pytest.raises(ValueError) as error:
        getattr(unharmed, road)(
            x, y, sample_weight={"lesion": np.ones(4), "tumour": np.ones(4)}, **silent
        )
    assert_one_line(error, "sample weights 'tumour'", "'lesion', 'nodule'")


@pytest.mark.parametrize("road", ["fit", "predict", "call", "drifa_keras.predict"])
@pytest.mark.parametrize("form", [list, tuple])
def test_list_in_place_of_a_dict(form, road, unharmed, make_images, make_targets):
    x = form(make_images(unharmed).values())
    calls = {
        "fit": lambda: unharmed.fit(x, make_targets(unharmed), verbose=0),
        "predict": lambda: unharmed.predict(x, verbose=0),
        "call": lambda: unharmed(x),
        "drifa_keras.predict": lambda: dk.predict(unharmed, x),
    }
    with pytest.raises(ValueError) as error:
        calls[road]()
    assert_one_line(error, "dict keyed by modality", "'ct'", form.__name__)


def test_one_array_in_place_of_a_dict(unharmed, make_images):
    with pytest.raises(ValueError) as error:
        unharmed.predict(make_images(unharmed)["skin"], verbose=0)
    assert_one_line(error, "dict keyed by modality", "'ct'")


WRONG_SHAPES = {
    "no batch axis": (SKIN, ("'skin'", "(16, 16, 3)", "image[None]")),
    "no channel axis": ((4, SIZE, SIZE), ("'skin'", "(4, 16, 16)", "batch, 16, 16, 3")),
    "channels": ((4, SIZE, SIZE, 1), ("'skin'", "channels 3", "(4, 16, 16, 1)")),
    "height": ((4, 8, SIZE, 3), ("'skin'", "height 16", "(4, 8, 16, 3)", "Resize")),
    "width": ((4, SIZE, 20, 3), ("'skin'", "width 16", "(4, 16, 20, 3)", "Resize")),
    "channels first": ((4, 3, SIZE, SIZE), ("'skin'", "height 16", "(4, 3, 16, 16)")),
}


@pytest.mark.parametrize("road", ["fit", "predict", "call", "drifa_keras.predict"])
@pytest.mark.parametrize("case", WRONG_SHAPES)
def test_wrong_shape(case, road, unharmed, make_images, make_targets):
    shape, parts = WRONG_SHAPES[case]
    x = {**make_images(unharmed), "skin": np.full(shape, 9.0, "float32")}
    if len(shape) == 3:
        x["ct"] = x["ct"][: shape[0]]
    calls = {
        "fit": lambda: unharmed.fit(x, make_targets(unharmed), verbose=0),
        "predict": lambda: unharmed.predict(x, verbose=0),
        "call": lambda: unharmed(x),
        "drifa_keras.predict": lambda: dk.predict(unharmed, {"skin": x["skin"]}),
    }
    with pytest.raises(ValueError) as error:
        calls[road]()
    assert_one_line(error, *parts)


@pytest.mark.parametrize("road", ["fit", "evaluate", "predict", "train_on_batch"])
@pytest.mark.parametrize(
    "value", [-1.0, 256.0, np.nan, np.inf], ids=["-1", "256", "nan", "inf"]
)
def test_pixels_out_of_range(value, road, unharmed, make_images, make_targets):
    x, y = make_images(unharmed), make_targets(unharmed)
    x["ct"][2, 3, 4, 0] = value
    silent = {} if road == "train_on_batch" else {"verbose": 0}
    with pytest.raises(ValueError) as error:
        if road == "predict":
            unharmed.predict(x, **silent)
        else:
            getattr(unharmed, road)(x, y, **silent)
    assert_one_line(error, "modality 'ct'", "0..255", "rescaling=None", f"{value}")


def test_pixels_of_0_to_1_warn(unharmed, make_images):
    x = make_images(unharmed)
    x["skin"] /= 255
    with pytest.warns(UserWarning, match=r"'skin' lie in 0..1.*Multiply by 255"):
        unharmed.predict(x, verbose=0)


def test_blank_and_usual_pixels_do_not_warn(unharmed, make_images):
    x = make_images(unharmed)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        unharmed.predict(x, verbose=0)
        unharmed.predict({**x, "ct": 0 * x["ct"]}, verbose=0)


def test_any_pixels_without_rescaling(make_plain, make_images):
    model = make_plain(rescaling=None)
    x = {name: (array - 128) / 100 for name, array in make_images(model).items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert np.isfinite(model.predict(x, verbose=0)["lesion"]).all()


@pytest.mark.parametrize(
    ("labels", "parts"),
    [
        (np.array([0, 1, 2, 3]), ("'lesion'", "0..2", "0 to 3", "sample weight 0")),
        (np.array([0, 1, -1, 1]), ("'lesion'", "0..2", "-1 to 1", "sample weight 0")),
        (np.eye(4, dtype="float32"), ("'lesion'", "3 columns", "(4, 4)")),
    ],
    ids=["too large", "negative", "too many columns"],
)
@pytest.mark.parametrize("road", ["fit", "evaluate", "train_on_batch"])
def test_labels_out_of_range(labels, parts, road, unharmed, make_images, make_targets):
    x, y = make_images(unharmed), {**make_targets(unharmed), "lesion": labels}
    silent = {} if road == "train_on_batch" else {"verbose": 0}
    with pytest.raises(ValueError) as error:
        getattr(unharmed, road)(x, y, **silent)
    assert_one_line(error, *parts)


PREDICT = {
    "nothing": ({}, ("No images", "'ct', 'skin'")),
    "only None": ({"ct": None}, ("No images", "'ct', 'skin'")),
    "unknown": ({"mri": np.ones((1, *CT))}, ("modality 'mri'", "'ct', 'skin'")),
    "unknown and None": (
        {"ct": np.full((1, *CT), 9.0), "mri": None},
        ("modality 'mri'", "'ct', 'skin'"),
    ),
    "lengths": (
        {"ct": np.full((1, *CT), 9.0), "skin": np.full((2, *SKIN), 9.0)},
        ("'ct': 1", "'skin': 2", "images of zeros"),
    ),
    "a number": ({"ct": np.float32(3)}, ("'ct'", "batch, 16, 16, 1")),
}


@pytest.mark.parametrize("case", PREDICT)
def test_predict_with_missing_modalities(case, unharmed):
    images, parts = PREDICT[case]
    with pytest.raises(ValueError) as error:
        dk.predict(unharmed, images)
    assert_one_line(error, *parts)


BAD_NAMES = ["a.b", "a/b", "a b", "", "_a", "-a", "ä", "a\n", "a:b", 3, None, ("a",)]


@pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
def test_names_that_not_every_backend_can_carry(name):
    for modalities, tasks, kind in (
        ({name: SKIN}, {"x": 2}, "modalities"),
        ({"a": SKIN}, {name: 2}, "tasks"),
    ):
        with pytest.raises(ValueError) as error:
            DRIFANet(modalities, tasks, filters=(2,), dropout_after=())
        assert_one_line(error, f"`{kind}`", repr(name), "Rename it")


def test_names_of_mixed_types():
    with pytest.raises(ValueError) as error:
        DRIFANet({"a": SKIN, 3: SKIN}, {"x": 2}, filters=(2,), dropout_after=())
    assert_one_line(error, "`modalities`", "3")


@pytest.mark.parametrize(
    ("modalities", "tasks"),
    [
        ({"a": SKIN, "a_stem_conv": SKIN}, {"x": 2}),
        ({"x_head": SKIN}, {"x": 2}),
        ({"presence": SKIN, "b": SKIN}, {"x": 2}),
    ],
)
def test_names_that_meet_those_of_layers(modalities, tasks):
    with pytest.raises(ValueError) as error:
        DRIFANet(modalities, tasks, filters=(2,), stem="small", dropout_after=())
    assert_one_line(error, *map(repr, modalities), *map(repr, tasks), "Rename")


BAD_ARGUMENTS = {
    "no modality": ({"modalities": {}}, ("`modalities`", "at least one")),
    "no task": ({"tasks": {}}, ("`tasks`", "at least one")),
    "modalities as a list": ({"modalities": ["a"]}, ("`modalities`", "dict")),
    "tasks as a list": ({"tasks": [2]}, ("`tasks`", "dict")),
    "one class": ({"tasks": {"x": 1}}, ("'x'", "at least 2", "1")),
    "half a class": ({"tasks": {"x": 2.5}}, ("'x'", "number of classes", "2.5")),
    "classes as names": ({"tasks": {"x": ["a", "b"]}}, ("'x'", "number of classes")),
    "two channels": ({"modalities": {"a": (16, 16, 2)}}, ("'a'", "1 or 3 channels")),
    "no channels": ({"modalities": {"a": (16, 16)}}, ("'a'", "height, width")),
    "no size": ({"modalities": {"a": (None, None, 3)}}, ("'a'", "positive integers")),
    "a size of 0": ({"modalities": {"a": (0, 16, 3)}}, ("'a'", "positive integers")),
    "maps of unequal size": (
        {"modalities": {"a": SKIN, "b": (32, 32, 3)}},
        ("a (8, 8, 2)", "b (16, 16, 2)", "equal image sizes"),
    ),
    "maps of unequal size without mifa": (
        {"modalities": {"a": SKIN, "b": (32, 32, 3)}, "mifa": False},
        ("a (8, 8, 2)", "b (16, 16, 2)", "equal image sizes"),
    ),
    "unknown mfa key": ({"mfa": {"hifa ": False}}, ("`mfa`", "'hifa '", "'clia'")),
    "unknown mifa key": ({"mifa": {"hifa": False}}, ("`mifa`", "'hifa'", "'mgifa'")),
    "no branch of mfa": (
        {"mfa": {"hifa": False, "clia": False}},
        ("hifa=False", "mfa=False"),
    ),
    "no branch of mifa": (
        {"mifa": {"mgifa": False, "mlifa": False}},
        ("mgifa=False", "mifa=False"),
    ),
    "unknown backbone": ({"backbone": "resnet19"}, ("backbone='resnet19'", "resnet18")),
    "unknown fusion": ({"fusion": "first"}, ("fusion='first'", "every_stage")),
    "unknown stem": ({"stem": "big"}, ("stem='big'", "small")),
    "no filters": ({"filters": ()}, ("`filters`",)),
    "filters of 0": ({"filters": (0,)}, ("filters",)),
    "dropout of 1": ({"dropout": 1.5}, ("1.5",)),
    "dropout after a stage too many": (
        {"dropout_after": (1,)},
        ("`dropout_after`", "1"),
    ),
    "dropout after a block too many": (
        {"dropout_after": ((0, 2),)},
        ("`dropout_after`", "(0, 2)"),
    ),
    "modality dropout of 1": ({"modality_dropout": 1.0}, ("1.0",)),
    "unknown argument": ({"mffa": False}, ("mffa",)),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_arguments(case):
    changed, parts = BAD_ARGUMENTS[case]
    arguments = {
        "modalities": {"a": SKIN},
        "tasks": {"x": 2},
        "filters": (2,),
        "stem": "small",
        "dropout_after": (),
        **changed,
    }
    with pytest.raises((ValueError, TypeError)) as error:
        DRIFANet(**arguments)
    assert_one_line(error, *parts)


def test_unknown_preset():
    with pytest.raises(ValueError) as error:
        DRIFANet.from_preset("drifa_resnet", {"a": SKIN}, {"x": 2})
    assert_one_line(error, "'drifa_resnet'", "drifa_resnet18", "drifa models")


def test_preset_of_another_class():
    class Other(DRIFANet):
        pass

    with pytest.raises(ValueError) as error:
        Other.from_preset("drifa_tiny", {"a": SKIN}, {"x": 2})
    assert_one_line(error, "'drifa_tiny'", "DRIFANet.from_preset", "Other")
