"""Grad-CAM against derivatives worked out by hand, on networks of every make."""

import gc
import weakref

import keras
import numpy as np
import pytest
from keras import ops

from drifa_keras import DRIFANet
from drifa_keras.explain import grad_cam
from harness import as_numpy

L = keras.layers
BUILDS = ["flat", "lists", "nested", "operations"]


def cam(maps, gradients):
    """Eq. 1-2 of Selvaraju et al., ICCV 2017."""
    weights = gradients.mean(axis=(1, 2))
    return np.maximum(np.einsum("nhwk,nk->nhw", maps, weights), 0)


def cam_plus_plus(maps, gradients, logits):
    """Eq. 13-19 of Chattopadhay et al., WACV 2018, with Y = exp(logit)."""
    y = np.exp(logits)[:, None, None, None]
    first, second, third = y * gradients, y * gradients**2, y * gradients**3
    total = maps.sum(axis=(1, 2), keepdims=True)
    alpha = second / (2 * second + total * third)
    weights = (alpha * np.maximum(first, 0)).sum(axis=(1, 2))
    return np.maximum(np.einsum("nhwk,nk->nhw", maps, weights), 0)


def scaled(evidence):
    """Each map from 0 to 1; a map of zeros stays so."""
    evidence = evidence - evidence.min(axis=(1, 2), keepdims=True)
    highest = evidence.max(axis=(1, 2), keepdims=True)
    return evidence / np.where(highest > 0, highest, 1)


def enlarged(evidence, size):
    """Bilinear, with cells that share their edges with the image."""

    def matrix(cells):
        place = (np.arange(size) + 0.5) * cells / size - 0.5
        distance = np.abs(np.clip(place, 0, cells - 1)[:, None] - np.arange(cells))
        return np.clip(1 - distance, 0, 1)

    down, across = map(matrix, evidence.shape[1:])
    return np.einsum("yi,nij,xj->nyx", down, evidence, across)


def assert_same(actual, desired, atol=1e-5):
    np.testing.assert_allclose(actual, desired, atol=atol, rtol=0)


# === The formula ===


@pytest.mark.parametrize("method", ["grad_cam", "grad_cam++"])
@pytest.mark.parametrize("build", BUILDS)
def test_by_hand(build, method, networks, images):
    model = networks[build]
    classes = np.arange(7) % 3
    maps = grad_cam(model, images, "p", classes, method=method)
    assert set(maps) == {"a", "b"}
    for name, found in maps.items():
        features = model.oracle.feature_map(name, images[name])
        gradients = model.oracle.gradient(images, "p", name, classes)
        if method == "grad_cam":
            wanted = cam(features, gradients)
        else:
            logits = model.oracle.logits(images, "p")[np.arange(7), classes]
            wanted = cam_plus_plus(features, gradients, logits)
        assert found.shape == (7, 8, 8) and found.dtype == "float32"
        assert (wanted.max(axis=(1, 2)) > 0).sum() >= 3, "nothing to compare"
        assert_same(found, scaled(wanted))


@pytest.mark.parametrize("task", ["p", "q"])
def test_predicted_class_is_the_default(task, networks, images):
    model = networks["flat"]
    predicted = model.oracle.logits(images, task).argmax(axis=1)
    assert len(set(predicted)) > 1
    by_default = grad_cam(model, images, task=task)
    for name, maps in grad_cam(model, images, task, predicted).items():
        assert_same(by_default[name], maps)
    other = grad_cam(model, images, task, 1 - predicted % 2)
    assert not np.allclose(other["a"], by_default["a"], atol=0.1)


def test_one_class_for_all(networks, images):
    model = networks["flat"]
    one, each = (grad_cam(model, images, "p", k) for k in (2, np.full(7, 2)))
    assert_same(one["b"], each["b"])


def test_images_as_a_list_or_alone(networks, images):
    model = networks["lists"]  # b before a
    listed = [images[x.name] for x in model.inputs]
    wanted = grad_cam(model, images, task="q")
    for name, maps in grad_cam(model, listed, "q").items():
        assert_same(maps, wanted[name])
    alone = one_input()
    x = images["a"]
    (by_name,), (by_place,) = (
        grad_cam(alone, given).values() for given in ({"a": x}, x)
    )
    assert_same(by_name, by_place)


def one_input(end="softmax", name="a"):
    """A Sequential with maps of 4x4 for images of 8x8, and one way to end."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name=name),
            L.Conv2D(3, 2, strides=2, activation="relu", name="conv"),
            L.Flatten(),
        ]
    )
    if end == "softmax":
        model.add(L.Dense(3, activation="softmax", name="head"))
    else:
        model.add(L.Dense(3, name="head"))
        model.add({"layer": L.Softmax, "none": L.Identity}.get(end, end)())
    return model


@pytest.mark.parametrize(
    "end", ["softmax", "none", "layer", lambda: L.Activation("sigmoid")]
)
def test_enlarged_and_of_the_logits_whatever_ends_the_network(end, images):
    model = one_input(end)
    kernel, bias = model.get_layer("conv").get_weights()
    x = images["a"].reshape(7, 4, 2, 4, 2).transpose(0, 1, 3, 2, 4).reshape(7, 4, 4, 4)
    features = np.maximum(x @ kernel.reshape(4, 3) + bias, 0)
    matrix = model.get_layer("head").get_weights()[0]
    gradients = np.broadcast_to(matrix[:, 1].reshape(1, 4, 4, 3), features.shape)
    wanted = scaled(enlarged(cam(features, gradients), 8))
    assert wanted.max() == 1
    assert_same(grad_cam(model, images["a"], class_index=1)["a"], wanted)


def test_sure_answers_have_maps_too(images):
    """Gradients of probabilities vanish there in float32."""
    model = one_input()
    model.set_weights([100 * weight for weight in model.get_weights()])
    probabilities = model.predict(images["a"], verbose=0).max(axis=1)
    sure = probabilities == 1
    assert sure.sum() > 2
    assert grad_cam(model, images["a"])["a"][sure].any(axis=(1, 2)).all()


def test_no_evidence_is_a_map_of_zeros(images):
    model = one_input()
    weights = model.get_weights()
    model.set_weights([*weights[:2], -np.abs(weights[2]), weights[3]])
    assert not grad_cam(model, np.abs(images["a"]), class_index=0)["a"].any()


# === The layer ===


def conv(filters, strides=1, **arguments):
    return L.Conv2D(
        filters, 3, strides=strides, padding="same", activation="relu", **arguments
    )


@pytest.fixture(scope="module")
def pyramid():
    """Maps of 16, 8, 4, 2 and 1 cells along a side."""
    x = inputs = keras.Input((16, 16, 1), name="x")
    for cells in (16, 8, 4, 2, 1):
        x = conv(4, 1 if cells == 16 else 2, name=f"conv_{cells}")(x)
    outputs = L.Dense(2, activation="softmax")(L.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, outputs)


@pytest.fixture(scope="module")
def big():
    return np.random.default_rng(0).standard_normal((3, 16, 16, 1)).astype("float32")


def assert_picks(model, x, layer, others=(), **arguments):
    """The layer chosen by itself is `layer`, whose maps are not those of others."""
    for name, maps in grad_cam(model, x, **arguments).items():
        arguments["inputs"] = [name]
        named = grad_cam(model, x, layer=layer, **arguments)[name]
        assert_same(maps, named)
        assert maps.any()
        for other in others:
            odd = grad_cam(model, x, layer=other, **arguments)[name]
            assert np.abs(maps - odd).max() > 1e-3, other


def test_picks_the_last_map_that_is_fine_enough(pyramid, big):
    assert_picks(pyramid, big, "conv_8", ["conv_16", "conv_4"])


def test_picks_the_finest_where_none_is_fine(images):
    x = inputs = keras.Input((8, 8, 1), name="x")
    for cells in (4, 2, 1):
        x = conv(4, 2, name=f"conv_{cells}")(x)
    model = keras.Model(inputs, L.Dense(2)(L.Flatten()(x)))
    assert_picks(model, images["a"], "conv_4", ["conv_2"])


def test_picks_the_end_of_a_residual_block(images):
    inputs = keras.Input((8, 8, 1), name="x")
    x = conv(4, name="before")(inputs)
    y = conv(4, name="inside")(x)
    x = L.Add(name="end")([y, x])
    model = keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D()(x)))
    assert_picks(model, images["a"], "end", ["inside", "before"])


def test_picks_what_the_task_reads():
    """One task reads an early map, the other one behind it."""
    inputs = keras.Input((8, 8, 1), name="x")
    early = conv(4, name="early")(inputs)
    late = conv(4, name="late")(early)
    pool = L.GlobalAveragePooling2D
    outputs = {
        "p": L.Dense(2, name="head_p")(pool()(early)),
        "q": L.Dense(2, name="head_q")(pool()(late)),
    }
    model = keras.Model(inputs, outputs)
    x = np.random.default_rng(0).standard_normal((3, 8, 8, 1)).astype("float32")
    assert_picks(model, x, "early", task="p")
    assert_picks(model, x, "late", ["early"], task="q")
    with pytest.raises(ValueError, match="Choose one of: .*early 8x8"):
        grad_cam(model, x, task="p", layer="late")


def test_picks_maps_in_front_of_the_place_where_inputs_join(images):
    inputs = {
        name: keras.Input((8, 8, c), name=name) for name, c in (("a", 1), ("b", 2))
    }
    joined = L.Concatenate(name="joined")(
        [conv(4, name=f"own_{name}")(x) for name, x in inputs.items()]
    )
    x = L.GlobalAveragePooling2D()(conv(4, name="shared")(joined))
    model = keras.Model(inputs, L.Dense(2)(x))
    own = grad_cam(model, images, layer={"a": "own_a", "b": "own_b"})
    chosen = grad_cam(model, images)
    shared = grad_cam(model, images, layer="shared")
    for name in inputs:
        assert_same(chosen[name], own[name])
    assert_same(shared["a"], shared["b"])
    assert not np.allclose(chosen["a"], chosen["b"], atol=0.1)


def test_inputs_joined_before_anything_is_learned_share_a_map(images):
    inputs = {
        name: keras.Input((8, 8, c), name=name) for name, c in (("a", 1), ("b", 2))
    }
    x = conv(4, name="shared")(L.Concatenate()(list(inputs.values())))
    model = keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D()(x)))
    maps = grad_cam(model, images)
    assert maps["a"].any()
    assert_same(maps["a"], maps["b"])
    assert_picks(model, images, "shared")


def test_encoder_that_serves_two_inputs(images):
    x = keras.Input((8, 8, 1))
    encoder = keras.Model(x, conv(4, name="conv")(x), name="encoder")
    inputs = {name: keras.Input((8, 8, 1), name=name) for name in ("a", "b")}
    pooled = [L.GlobalAveragePooling2D()(encoder(x)) for x in inputs.values()]
    model = keras.Model(inputs, L.Dense(3)(L.Concatenate()(pooled)))
    x = {"a": images["a"], "b": images["b"][..., :1]}
    maps = grad_cam(model, x, class_index=1)
    kernel = model.layers[-1].get_weights()[0][:, 1]
    for name, weights in zip(x, (kernel[:4], kernel[4:]), strict=True):
        features = as_numpy(encoder(x[name]))
        wanted = np.maximum(features @ weights, 0)
        assert_same(maps[name], scaled(wanted), atol=1e-4)
    named = grad_cam(model, x, class_index=1, layer="encoder/conv")
    assert_same(named["b"], maps["b"])


@pytest.fixture(scope="module")
def drifa():
    return DRIFANet(
        {"ct": (16, 16, 1), "skin": (16, 16, 3)},
        {"lesion": 3, "nodule": 2},
        filters=(4, 8),
        stem="small",
        dropout_after=(0,),
        mifa={"mlifa": False},
        fusion="every_stage",
    )


@pytest.fixture(scope="module")
def drifa_images():
    generator = np.random.default_rng(0)
    return {
        "ct": generator.integers(1, 256, (3, 16, 16, 1)).astype("float32"),
        "skin": generator.integers(1, 256, (3, 16, 16, 3)).astype("float32"),
    }


def test_fusion_keeps_streams_apart(drifa, drifa_images):
    """Stage 0 has 8x8 cells; `MIFA` turns two maps into two."""
    for task in drifa.tasks:
        arguments = {"task": task, "class_index": 0}
        chosen = grad_cam(drifa, drifa_images, **arguments)
        fused = grad_cam(drifa, drifa_images, layer="mifa_stage0_block1", **arguments)
        for name in chosen:
            assert_same(chosen[name], fused[name])
        assert not np.allclose(chosen["ct"], chosen["skin"], atol=0.1)


def test_absent_image_has_no_evidence(drifa, drifa_images):
    x = {**drifa_images, "ct": drifa_images["ct"].copy()}
    x["ct"][1] = 0
    maps = grad_cam(drifa, x, task="lesion")
    assert not maps["ct"][1].any()
    assert maps["skin"][1].any()


def test_input_that_is_no_image(images):
    inputs = {
        "a": keras.Input((8, 8, 1), name="a"),
        "age": keras.Input((1,), name="age"),
    }
    x = L.GlobalAveragePooling2D()(conv(4, name="conv")(inputs["a"]))
    x = L.Concatenate()([x, L.Dense(2)(inputs["age"])])
    model = keras.Model(inputs, L.Dense(3, activation="softmax")(x))
    x = {"a": images["a"], "age": np.ones((7, 1))}
    assert list(grad_cam(model, x)) == ["a"]
    with pytest.raises(ValueError, match=r"names the input 'age'.*are \['a'\]"):
        grad_cam(model, x, inputs=["age"])


# === What is left as it was ===


@pytest.mark.parametrize("batch_size", [1, 3, 6])
def test_any_batch_size(batch_size, networks, images):
    model = networks["flat"]
    wanted = grad_cam(model, images, "p", [0, 1, 2, 0, 1, 2, 0])
    parts = grad_cam(model, images, "p", [0, 1, 2, 0, 1, 2, 0], batch_size=batch_size)
    for name, maps in wanted.items():
        assert_same(parts[name], maps)


def test_nothing_moves(images):
    inputs = keras.Input((8, 8, 1), name="a")
    x = L.BatchNormalization()(conv(4)(inputs))
    x = L.SpatialDropout2D(0.5, seed=1)(x)
    x = L.Dropout(0.5, seed=2)(L.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, L.Dense(3, activation="softmax")(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(images["a"], np.arange(7) % 3, verbose=0)
    config, count = model.to_json(), len(model.layers)
    variables = [*model.variables, *model.optimizer.variables]
    before = [as_numpy(v) for v in variables]
    maps = grad_cam(model, images["a"])["a"]
    for variable, value in zip(variables, before, strict=True):
        assert np.array_equal(as_numpy(variable), value), variable.path
    assert (model.to_json(), len(model.layers)) == (config, count)
    # Dropout is off, so that a further call gives the same.
    assert np.array_equal(grad_cam(model, images["a"])["a"], maps)
    model.fit(images["a"], np.arange(7) % 3, verbose=0)


def test_a_model_that_was_trained_on_is_read_anew(images):
    model = one_input()
    before = grad_cam(model, images["a"], class_index=0)["a"]
    fresh = one_input()
    model.set_weights(fresh.get_weights())
    after = grad_cam(model, images["a"], class_index=0)["a"]
    assert not np.allclose(after, before, atol=0.1)
    assert_same(after, grad_cam(fresh, images["a"], class_index=0)["a"])


def test_a_model_is_let_go(images):
    model = one_input()
    grad_cam(model, images["a"])
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None


def test_half_precision(images):
    inputs = keras.Input((8, 8, 1), name="a", dtype="float32")
    x = conv(4, dtype="mixed_bfloat16")(inputs)
    x = L.GlobalAveragePooling2D(dtype="mixed_bfloat16")(x)
    model = keras.Model(inputs, L.Dense(3, activation="softmax", dtype="float32")(x))
    x = inputs = keras.Input((8, 8, 1), name="a")
    exact = keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling2D()(conv(4)(x))))
    exact.set_weights(model.get_weights())
    maps, wanted = (
        grad_cam(m, images["a"], class_index=2)["a"] for m in (model, exact)
    )
    assert maps.dtype == "float32" and wanted.any()
    assert_same(maps, wanted, atol=0.05)


# === Bad input ===


BAD = {
    "layer that does not exist": (
        {"layer": "conv_7"},
        "'conv_7' has no feature map .*: conv_16 16x16, conv_8 8x8, .*conv_2 2x2",
    ),
    "layer without cells": (
        {"layer": "conv_1"},
        "'conv_1' has no feature map of input 'x'. Choose one of: conv_16",
    ),
    "layer without a map": ({"layer": "dense"}, "'dense' has no feature map"),
    "layer of another input": ({"layer": {"y": "conv_8"}}, "`layer` names .*'y'"),
    "class out of range": (
        {"class_index": [0, 1, 2]},
        r"must lie in 0..1 for task .*from 0 to 2",
    ),
    "negative class": ({"class_index": -1}, "must lie in 0..1"),
    "classes of another number": ({"class_index": [0, 1]}, "3 integers, one a sample"),
    "class of another kind": ({"class_index": 0.5}, "dtype float64"),
    "unknown task": ({"task": "mole"}, r"must be one of \[.*Received: task='mole'"),
    "unknown method": ({"method": "cam"}, r"'grad_cam', 'grad_cam\+\+'.*'cam'"),
    "unknown input": ({"inputs": ["y"]}, r"`inputs` names the input 'y'.*\['x'\]"),
    "no input": ({"inputs": []}, "`inputs` names the input None"),
    "no batch": ({"batch_size": 0}, "`batch_size` must be a positive integer"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case, pyramid, big):
    arguments, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        grad_cam(pyramid, big, **arguments)


def test_no_path_from_an_input_to_a_task(images):
    inputs = {
        name: keras.Input((8, 8, c), name=name) for name, c in (("a", 1), ("b", 2))
    }
    outputs = {
        name: L.Dense(2)(L.GlobalAveragePooling2D()(conv(2)(x)))
        for name, x in inputs.items()
    }
    model = keras.Model(inputs, outputs)
    with pytest.raises(ValueError, match=r"'b' to task 'a'.*Pass inputs=\['a'\]"):
        grad_cam(model, images, task="a", inputs=["a", "b"])
    wanted = grad_cam(model, images, task="a", inputs=["a"])
    assert list(wanted) == ["a"]
    # Nothing in the other image can explain it, which is no mistake of the caller.
    maps = grad_cam(model, images, task="a")
    assert set(maps) == {"a", "b"}
    np.testing.assert_array_equal(maps["a"], wanted["a"])
    assert maps["b"].shape == images["b"].shape[:3] and not maps["b"].any()


def test_model_without_any_map(images):
    inputs = keras.Input((8, 8, 1), name="a")
    model = keras.Model(inputs, L.Dense(2)(L.Flatten()(inputs)))
    with pytest.raises(ValueError, match="No layer between input 'a' and task"):
        grad_cam(model, images["a"])


def test_layer_with_several_maps(images):
    """A name without its path that two nested models have."""
    inputs = keras.Input((8, 8, 1), name="a")
    x = inputs
    for outer in ("first", "second"):
        inner = keras.Input(x.shape[1:])
        x = keras.Model(inner, conv(2, name="conv")(inner), name=outer)(x)
    model = keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D()(x)))
    message = "'conv' has several maps.*: first/conv 8x8, second/conv 8x8"
    with pytest.raises(ValueError, match=message):
        grad_cam(model, images["a"], layer="conv")
    assert_picks(model, images["a"], "second/conv", ["first/conv"])


def test_task_that_is_no_classification(images):
    inputs = keras.Input((8, 8, 1), name="a")
    x = L.Reshape((64, 2))(conv(2)(inputs))
    model = keras.Model(inputs, L.Identity(name="mask")(x))
    with pytest.raises(ValueError, match="Task 'mask' has outputs of shape"):
        grad_cam(model, images["a"])


def test_models_without_a_graph(images):
    class Subclassed(keras.Model):
        def call(self, x):
            return ops.mean(x, axis=(1, 2))

    for model in (Subclassed(), keras.Sequential([L.Dense(2)])):
        with pytest.raises(ValueError, match="Functional model or a built Sequential"):
            grad_cam(model, images["a"])
