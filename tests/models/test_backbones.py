"""Any Functional model as a backbone: cutting it, and DRIFA-Net around it."""

import keras
import numpy as np
import pytest

import drifa_keras as dk
from drifa_keras.models import DRIFANet, cost, cut_points, stage_ends
from harness import as_numpy, momenta

L = keras.layers

TASKS = {"kind": 3, "grade": 2}


def conv_net(size=32, channels=3, width=4, name="own"):
    """Three stages; the second has a residual connection inside."""
    image = keras.Input((size, size, channels), name="image")
    x = L.Conv2D(width, 3, padding="same", activation="relu", name="one")(image)
    x = L.MaxPooling2D(name="pool")(x)
    y = L.Conv2D(width, 3, padding="same", name="inside")(x)
    y = L.BatchNormalization(name="norm")(y)
    x = L.Add(name="two")([x, y])
    x = L.Conv2D(2 * width, 3, strides=2, padding="same", name="three")(x)
    x = L.ReLU(name="end")(x)
    return keras.Model(image, x, name=name)


def unet():
    """Nothing but the ends passes everything: a connection spans it."""
    image = keras.Input((16, 16, 3), name="image")
    x = L.Conv2D(4, 3, padding="same", name="down")(image)
    y = L.Conv2D(4, 3, padding="same", name="deep")(x)
    return keras.Model(image, L.Concatenate(name="up")([x, y]), name="spanned")


def images(modalities, count=3, seed=0):
    generator = np.random.default_rng(seed)
    return {
        name: generator.integers(1, 256, (count, *shape)).astype("float32")
        for name, shape in modalities.items()
    }


def randomized(model, seed=0):
    """The model with weights, running statistics included, that no layer starts at."""
    generator = np.random.default_rng(seed)
    model.set_weights(
        [w + 0.1 * generator.random(w.shape, "float32") for w in model.get_weights()]
    )
    return model


# -- Where a model can be cut ----------------------------------------------------------


def test_cut_points_are_what_nothing_passes():
    assert cut_points(conv_net()) == {
        "one": (None, 32, 32, 4),
        "pool": (None, 16, 16, 4),
        "two": (None, 16, 16, 4),
        "three": (None, 8, 8, 8),
        "end": (None, 8, 8, 8),
    }
    assert list(cut_points(unet())) == ["down", "up"]


def test_a_layer_that_is_called_twice_is_no_cut_point():
    image = keras.Input((8, 8, 3))
    twice = L.Conv2D(3, 3, padding="same", name="twice")
    x = L.ReLU(name="end")(twice(twice(image)))
    assert list(cut_points(keras.Model(image, x))) == ["end"]


def test_stage_ends_are_the_last_of_each_size():
    assert stage_ends(conv_net()) == ["one", "two", "end"]
    assert stage_ends(conv_net(), most=2) == ["two", "end"]


def test_looking_leaves_the_model_as_it_was():
    model = conv_net()
    nodes = [len(layer._inbound_nodes) for layer in model.layers]
    before = model.get_weights()
    DRIFANet({"a": (32, 32, 3)}, TASKS, backbone=model)
    assert [len(layer._inbound_nodes) for layer in model.layers] == nodes
    assert model.get_layer("one").output.shape == (None, 32, 32, 4)
    for found, wanted in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, wanted)


# -- The network around it -------------------------------------------------------------


@pytest.mark.parametrize("shared", [False, True])
def test_pretrained_weights_survive_the_cutting(shared):
    base = randomized(conv_net())
    modalities = {"a": (32, 32, 3), "b": (32, 32, 3)}
    model = DRIFANet(
        modalities,
        TASKS,
        backbone=base,
        mfa=False,
        mifa=False,
        dropout=0,
        shared_backbone=shared,
    )
    x = images(modalities)
    maps = keras.Model(model.input, model.get_layer("fused_streams").output)
    found = maps.predict(x, verbose=0)
    wanted = [base.predict(x[name] / 255, verbose=0) for name in modalities]
    np.testing.assert_allclose(found, np.concatenate(wanted, -1), atol=1e-5)
    prefixes = ["shared"] if shared else list(modalities)
    pieces = {layer.name for layer in model.layers if isinstance(layer, keras.Model)}
    assert pieces == {f"{p}_stage{k}" for p in prefixes for k in range(3)}
    own = sum(np.prod(w.shape) for w in base.get_weights())
    heads = 5 * (16 + 1) + 2  # matrices, biases, temperatures
    assert model.count_params() == len(prefixes) * own + heads


def test_attention_follows_each_stage_and_joins_the_branches():
    modalities = {"a": (32, 32, 3), "b": (32, 32, 1)}
    model = DRIFANet(
        modalities, TASKS, backbone=conv_net(), fusion="every_stage", final_mfa=False
    )
    names = {layer.name for layer in model.layers}
    assert {"a_stage0_mfa", "b_stage1_mfa", "mifa_stage0", "mifa_stage2"} <= names
    assert "a_stage2_mfa" not in names
    assert {"a_stage1_dropout", "a_stage2_dropout", "b_to_rgb"} <= names
    x = images(modalities)
    for modality in modalities:  # what is absent plays no part
        absent = {**x, modality: np.zeros_like(x[modality])}
        other = {
            **absent,
            "a" if modality == "b" else "b": x["a" if modality == "b" else "b"],
        }
        found, again = (model.predict(v, verbose=0)["kind"] for v in (absent, other))
        np.testing.assert_array_equal(found, again)


def test_one_backbone_a_modality():
    modalities = {"a": (32, 32, 3), "b": (32, 32, 1)}
    backbones = {"a": conv_net(), "b": conv_net(channels=1, name="grey")}
    model = DRIFANet(
        modalities,
        TASKS,
        backbone=backbones,
        stages={"a": ["two", "end"], "b": ["one", "three"]},
    )
    assert model.get_layer("a_stage0").output.shape[1:] == (16, 16, 4)
    assert model.get_layer("b_stage0").output.shape[1:] == (32, 32, 4)
    assert set(model.predict(images(modalities), verbose=0)) == set(TASKS)


def test_trains_saves_and_loads(tmp_path):
    modalities = {"a": (32, 32, 3), "b": (32, 32, 3)}
    base = randomized(conv_net())
    base.get_layer("one").trainable = False
    model = DRIFANet(modalities, TASKS, backbone=base, stages=["two", "end"])
    frozen = as_numpy(model.get_layer("a_stage0").get_layer("one").kernel)
    model.compile("adam", "sparse_categorical_crossentropy")
    x = images(modalities, 8)
    y = {task: np.arange(8) % n for task, n in TASKS.items()}
    model.fit(x, y, epochs=1, verbose=0)
    np.testing.assert_array_equal(
        as_numpy(model.get_layer("a_stage0").get_layer("one").kernel), frozen
    )
    # What was frozen and freed since counts, not what the backbone came with.
    model.get_layer("a_stage0").get_layer("one").trainable = True
    model.get_layer("b_stage1").get_layer("three").trainable = False
    model.compile("adam", "sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    wanted = model.predict(x, verbose=0)
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    assert reloaded.get_config() == model.get_config()
    for task, values in reloaded.predict(x, verbose=0).items():
        np.testing.assert_allclose(values, wanted[task], atol=1e-6)
    assert reloaded.get_layer("a_stage0").get_layer("one").trainable
    assert not reloaded.get_layer("b_stage0").get_layer("one").trainable
    assert not reloaded.get_layer("b_stage1").get_layer("three").trainable
    reloaded.fit(x, y, epochs=1, verbose=0)


def test_explains_and_doubts():
    modalities = {"a": (32, 32, 3), "b": (32, 32, 3)}
    model = DRIFANet(modalities, TASKS, backbone=conv_net(), shared_backbone=True)
    x = images(modalities, 2)
    heatmaps = dk.explain.grad_cam(model, x, task="kind")
    assert set(heatmaps) >= set(modalities)
    drawn = dk.uncertainty.predict(model, x, passes=4)
    assert drawn["kind"].variance.min() > 0


# -- Known networks --------------------------------------------------------------------


APPLICATIONS = {
    "MobileNetV3Small": (48, 1.0, None),
    "EfficientNetV2B0": (32, 1.0, None),
    "InceptionV3": (75, 1 / 255, ["mixed2", "mixed7", "mixed10"]),
}


@pytest.mark.parametrize(
    "name",
    [
        # The smallest stands for all where compiling takes the time.
        name if "Mobile" in name else pytest.param(name, marks=pytest.mark.large("jax"))
        for name in APPLICATIONS
    ],
)
def test_keras_applications(name):
    size, rescaling, stages = APPLICATIONS[name]
    base = randomized(
        getattr(keras.applications, name)(
            include_top=False, weights=None, input_shape=(size, size, 3)
        )
    )
    plain = {"mfa": False, "mifa": False, "dropout": 0}
    modalities = {"a": (size, size, 3)}
    arguments = {"backbone": base, "stages": stages, "rescaling": rescaling}
    model = DRIFANet(modalities, TASKS, **arguments, **plain)
    x = images(modalities, 2)
    last = model.get_layer("fused_streams").output
    found = keras.Model(model.input, last).predict(x, verbose=0)
    ends = stages or stage_ends(base)
    wanted = keras.Model(base.input, base.get_layer(ends[-1]).output).predict(
        x["a"] * rescaling, verbose=0
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    whole = DRIFANet(modalities, TASKS, **arguments)
    assert sum(layer.name.endswith("_mfa") for layer in whole.layers) == len(ends)
    assert cost(whole).multiply_adds > cost(model).multiply_adds > 0


@pytest.mark.large("jax")
def test_inception_v3():
    modalities = {"a": (75, 75, 3), "b": (75, 75, 1)}
    model = DRIFANet(modalities, TASKS, backbone="inception_v3")
    alone = keras.applications.InceptionV3(
        include_top=False, weights=None, input_shape=(75, 75, 3)
    )
    centred = keras.Model(model.input, model.get_layer("a_centred").output)
    x = images(modalities, 2)
    np.testing.assert_allclose(
        centred.predict(x, verbose=0), x["a"] / 127.5 - 1, atol=1e-6
    )
    pieces = [model.get_layer(f"a_stage{stage}") for stage in range(3)]
    assert sum(piece.count_params() for piece in pieces) == alone.count_params()
    weights = [p.get_weights()[0] for p in (pieces[0], model.get_layer("b_stage0"))]
    assert (weights[0] != weights[1]).any()  # each begins by itself
    copy = DRIFANet.from_config(model.get_config())
    assert copy.get_config() == model.get_config()
    assert set(model.predict(x, verbose=0)) == set(TASKS)


@pytest.mark.large("jax")
def test_precision_and_momentum_of_inception_v3():
    model = DRIFANet(
        {"a": (75, 75, 3)},
        TASKS,
        backbone="inception_v3",
        norm_momentum=0.8,
        dtype="mixed_bfloat16",
    )
    assert model.get_layer("a_stage0").output.dtype == "bfloat16"
    assert model.output["kind"].dtype == "float32"
    assert momenta(model) == [0.8] * 94


@pytest.mark.filterwarnings("ignore")
def test_keras_cv_backbone():
    keras_cv = pytest.importorskip("keras_cv", reason="the extra keras-cv is absent")
    base = keras_cv.models.DenseNetBackbone(
        stackwise_num_repeats=[1, 1],
        compression_ratio=0.5,
        growth_rate=8,
        include_rescaling=False,
        input_shape=(32, 32, 3),
    )
    model = DRIFANet({"a": (32, 32, 3)}, TASKS, backbone=base)
    assert set(model.predict(images(model.modalities), verbose=0)) == set(TASKS)


@pytest.mark.filterwarnings("ignore")
def test_keras_hub_backbone(tmp_path):
    keras_hub = pytest.importorskip("keras_hub", reason="keras-hub is not installed")
    base = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 128],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(32, 32, 3),
    )
    model = DRIFANet({"a": (32, 32, 3), "b": (32, 32, 3)}, TASKS, backbone=base)
    x = images(model.modalities)
    wanted = model.predict(x, verbose=0)
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        reloaded.predict(x, verbose=0)["kind"], wanted["kind"], atol=1e-6
    )


# -- Bad input -------------------------------------------------------------------------


def two_outputs():
    model = conv_net()
    return keras.Model(model.input, [model.output, model.get_layer("two").output])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "resnet50"}, r"\['resnet18', 'inception_v3'\].*'resnet50'"),
        (
            {"backbone": conv_net},
            '"inception_v3" or a Functional Keras model.*function',
        ),
        ({"backbone": two_outputs}, "one input and one output.*1 inputs and 2 outputs"),
        ({"stages": ["too"]}, r"no layer 'too'. Did you mean 'two'\?.*\['one', 'pool'"),
        ({"stages": ["inside"]}, "cut at 'inside': 'two' reads 'pool' past it"),
        ({"stages": ["image"]}, "cut at 'image', which is its input"),
        ({"stages": ["end", "two"]}, r"from the input on. Received: \['end', 'two'\]"),
        ({"stages": []}, "must name at least one layer"),
        ({"stages": {"a": ["end"]}}, r"must name the modalities \['a', 'b'\].*\['a'\]"),
        (
            {"stages": {"a": ["end"], "b": ["two", "end"]}},
            r"same number of stages.*\{'a': 1, 'b': 2\}",
        ),
        (
            {"stages": {"a": ["end"], "b": ["two"]}},
            r"meet in a fusion.*a \(8, 8, 8\), b \(16, 16, 4\)",
        ),
        ({"backbone": {"a": conv_net}}, r"as a dict must name the modalities"),
        ({"backbone": lambda: conv_net(16)}, r"'a' takes images \(16, 16, 3\).*32, 32"),
        ({"backbone": lambda: conv_net(channels=1)}, r"\(32, 32, 1\).*input_shape="),
        ({"weights": "imagenet"}, '`weights` is for `backbone="inception_v3"`'),
        ({"dropout_after": (5,)}, "stages 0..2 .*Received: 5"),
        ({"backbone": "inception_v3"}, "at least 75x75"),
        ({"backbone": "resnet18", "stages": ["end"]}, 'not for `backbone="resnet18"`'),
        (
            {"backbone": {"a": conv_net, "b": conv_net}, "shared_backbone": True},
            r"one model that serves all modalities.*\['a', 'b'\]: pass a single",
        ),
    ],
)
def test_bad_backbones(arguments, message):
    arguments = {"backbone": conv_net, **arguments}
    given = arguments["backbone"]
    if isinstance(given, dict):
        arguments["backbone"] = {name: make() for name, make in given.items()}
    elif callable(given) and message.startswith('"inception_v3" or a F') is False:
        arguments["backbone"] = given()
    with pytest.raises(ValueError, match=message):
        DRIFANet({"a": (32, 32, 3), "b": (32, 32, 3)}, TASKS, **arguments)


def test_a_model_that_cannot_be_cut():
    image = keras.Input((8, 8, 3))
    x = L.Dense(3)(L.Flatten()(image))
    with pytest.raises(ValueError, match="cannot be cut anywhere"):
        DRIFANet({"a": (8, 8, 3)}, TASKS, backbone=keras.Model(image, x))


def test_maps_of_unknown_size_need_named_stages():
    image = keras.Input((None, None, 3), name="image")
    x = L.Conv2D(4, 3, strides=2, name="half")(image)
    base = keras.Model(image, L.Conv2D(4, 3, name="end")(x))
    with pytest.raises(ValueError, match=r"no known size.*`stages`.*\['half', 'end'\]"):
        DRIFANet({"a": (32, 32, 3)}, TASKS, backbone=base)
    model = DRIFANet({"a": (32, 32, 3)}, TASKS, backbone=base, stages=["half", "end"])
    assert model.get_layer("a_stage0_mfa").output.shape == (None, 15, 15, 4)


def test_rescaling_twice_is_warned_of():
    image = keras.Input((32, 32, 3), name="image")
    x = L.Rescaling(1 / 127.5, offset=-1, name="inner")(image)
    base = keras.Model(image, L.Conv2D(4, 3, name="end")(x), name="own")
    with pytest.warns(UserWarning, match="'own' rescales pixels itself.*'inner'"):
        DRIFANet({"a": (32, 32, 3)}, TASKS, backbone=base)
    DRIFANet({"a": (32, 32, 3)}, TASKS, backbone=base, rescaling=1.0)
