"""The gates that were applied: what a layer returns divided by what it is given."""

import keras
import numpy as np
import pytest

from drifa_keras import DRIFANet
from drifa_keras.explain import attention_maps
from drifa_keras.layers import MFA, MIFA, RRABlock
from harness import as_numpy

L = keras.layers
SHAPE = (8, 8, 4)
NAMES = ("a", "b")


def shake(model):
    """Other weights than those of a fresh layer, whose omegas are all 1."""
    generator = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(weight + 0.5 * generator.standard_normal(weight.shape))
    return model


@pytest.fixture(scope="module")
def images():
    generator = np.random.default_rng(1)
    return {
        name: generator.uniform(0.5, 2, (5, *SHAPE)).astype("float32") for name in NAMES
    }


def keras_inputs():
    return {name: keras.Input(SHAPE, name=name) for name in NAMES}


def divided(layer, x):
    """The gates of a map, enlarged to it."""
    return as_numpy(layer(x)) / as_numpy(x)


def assert_gates(found, wanted):
    assert found.dtype == "float32"
    wanted = np.asarray(wanted)
    np.testing.assert_allclose(np.broadcast_to(found, wanted.shape), wanted, atol=1e-5)
    assert wanted.std() > 0.01


def test_mfa(images):
    inputs = keras_inputs()
    mfa = MFA(name="gate")
    model = keras.Model(inputs, [mfa(inputs["a"]), L.Dense(2)(inputs["b"])])
    shake(model)
    maps = attention_maps(model, images)
    assert list(maps) == ["gate"] and list(maps["gate"]) == ["a"]
    assert maps["gate"]["a"].shape == (5, 1, 1, 4)
    assert_gates(maps["gate"]["a"], divided(mfa, images["a"]))


def test_a_layer_that_is_called_twice(images):
    inputs = keras_inputs()
    mfa = MFA(name="gate")
    model = keras.Model(inputs, [mfa(inputs["a"]), mfa(inputs["b"])])
    maps = attention_maps(shake(model), images)
    assert set(maps) == {"gate", "gate.2"}
    for name in NAMES:
        (gates,) = (m[name] for m in maps.values() if name in m)
        assert_gates(gates, divided(mfa, images[name]))


@pytest.mark.parametrize(
    ("arguments", "side"), [({}, 8), ({"mlifa": False}, 1), ({"mgifa": False}, 8)]
)
def test_mifa(arguments, side, images):
    inputs = keras_inputs()
    mifa = MIFA(**arguments, name="fusion")
    model = keras.Model(inputs, mifa(list(inputs.values())))
    maps = attention_maps(shake(model), images)["fusion"]
    outputs = mifa(list(images.values()))
    for name, output in zip(NAMES, outputs, strict=True):
        assert maps[name].shape == (5, side, side, 4)
        assert_gates(maps[name], as_numpy(output) / images[name])


def test_absent_modality():
    """An absent image leaves `MIFA` as zeros: its gates are zero."""
    model = DRIFANet(
        {"ct": (16, 16, 1), "skin": (16, 16, 3)},
        {"lesion": 3},
        filters=(4,),
        stem="small",
        dropout_after=(),
        mfa=False,
        mifa={"mlifa": False},
    )
    generator = np.random.default_rng(0)
    x = {
        name: generator.integers(1, 256, (3, *shape)).astype("float32")
        for name, shape in model.modalities.items()
    }
    x["ct"][1] = 0
    ((layer, gates),) = attention_maps(model, x).items()
    assert layer == "mifa_stage0_block1"
    assert not gates["ct"][1].any()
    assert gates["ct"][[0, 2]].all() and gates["skin"].all()


def test_inside_a_residual_block_and_nested_models(images):
    """The block's second gate gates what its second convolution makes."""
    block = RRABlock(4, name="block")
    inputs = keras.Input(SHAPE)
    encoder = keras.Model(inputs, block(inputs), name="encoder")
    outer = keras.Input(SHAPE, name="a")
    model = shake(keras.Model(outer, L.GlobalAveragePooling2D()(encoder(outer))))
    for layer in (block.norm1, block.norm2):
        layer.moving_variance.assign(layer.moving_variance**2 + 1)
    maps = attention_maps(model, images["a"])
    assert set(maps) == {"encoder/block/mfa1", "encoder/block/mfa2"}
    x = block.conv1(images["a"])
    assert_gates(maps["encoder/block/mfa1"]["a"], divided(block.mfa1, x))
    x = keras.ops.relu(block.norm1(block.mfa1(x), training=False))
    x = block.conv2(x)
    assert_gates(maps["encoder/block/mfa2"]["a"], divided(block.mfa2, x))


def test_streams_that_have_become_one(images):
    inputs = keras_inputs()
    gated = MFA(name="gate")(L.Concatenate()(list(inputs.values())))
    model = shake(keras.Model(inputs, L.Flatten()(gated)))
    maps = attention_maps(model, images)["gate"]
    assert list(maps) == ["a+b"] and maps["a+b"].shape == (5, 1, 1, 8)


def test_any_batch_size_and_nothing_moves(images):
    inputs = keras_inputs()
    outputs = MIFA(name="fusion")(list(inputs.values()))
    model = shake(keras.Model(inputs, outputs))
    before = [as_numpy(v) for v in model.variables]
    wanted = attention_maps(model, images)["fusion"]
    for variable, value in zip(model.variables, before, strict=True):
        assert np.array_equal(as_numpy(variable), value)
    for name, gates in attention_maps(model, images, batch_size=2)["fusion"].items():
        np.testing.assert_allclose(gates, wanted[name], atol=1e-6)


def test_model_without_such_a_layer(images):
    inputs = keras_inputs()
    model = keras.Model(inputs, L.Flatten()(L.Add()(list(inputs.values()))), name="sum")
    with pytest.raises(ValueError, match="sum has no MFA or MIFA layer"):
        attention_maps(model, images)
