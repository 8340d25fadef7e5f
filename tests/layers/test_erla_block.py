"""ERLABlock (Fig. 2C), the residual block of MAIL."""

import numpy as np
import pytest

from drifa_keras.layers import ERLABlock, freeze_randomness
from harness import as_numpy, assert_close, built, random_map, run_layer_test
from harness_mail import expected_erla_block

ROBUST = {"random_ratio": 0.25, "noise_stddev": 0.6}


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize(
    ("shape", "kwargs"),
    [
        ((2, 5, 7, 8), {"filters": 8, "groups": 4}),
        ((2, 5, 7, 8), {"filters": 16, "groups": 4}),
        ((2, 5, 6, 8), {"filters": 8, "groups": 4, "strides": 2}),
        ((2, 1, 1, 16), {"filters": 32, "strides": 2}),
    ],
    ids=str,
)
def test_equations(shape, kwargs, released):
    x = random_map(shape) / 10
    layer = built(ERLABlock(released=released, **kwargs), shape)
    assert_close(layer(x, training=False), expected_erla_block(layer, x))


@pytest.mark.parametrize("released", [False, True])
def test_equations_of_robust_mail(released):
    x = random_map((2, 5, 6, 8)) / 10
    layer = built(
        ERLABlock(16, strides=2, groups=4, released=released, **ROBUST), x.shape
    )
    with freeze_randomness(layer):
        outputs = as_numpy(layer(x, training=False))
        assert_close(outputs, expected_erla_block(layer, x))
    assert np.abs(as_numpy(layer(x, training=False)) - outputs).max() > 1e-3


def emila_params(channels, filters, groups):
    branches = channels // groups * filters + 34 * channels
    fuse = (filters + 2 * channels) // 2 * filters
    units = filters // 4
    attention = 2 * filters * units + units + filters + 1
    return branches + fuse + attention + channels * filters + 8 * filters


def test_layer_behaves(tmp_path):
    run_layer_test(
        ERLABlock,
        {"filters": 32, "strides": 2, "groups": 4},
        (2, 5, 7, 16),
        tmp_path,
        expected_output_shape=(2, 3, 4, 32),
        expected_params=emila_params(16, 32, 4)
        + emila_params(32, 32, 4)
        + (4 * 32)
        + (32 * 32 + 4 * 32)
        + (16 * 32 + 4 * 32),
    )


def test_released_layer_behaves(tmp_path):
    biases = 2 * (32 + 2 * 32 + 32) + 2 * 32 + 32
    run_layer_test(
        ERLABlock,
        {"filters": 32, "groups": 4, "released": True, "norm_momentum": 0.9},
        (2, 5, 7, 32),
        tmp_path,
        expected_output_shape=(2, 5, 7, 32),
        expected_params=2 * emila_params(32, 32, 4)
        + (4 * 32)
        + (32 * 32 + 4 * 32)
        + biases,
        unmoved=("/bias", "attention/kernel"),
    )


def test_robust_layer_behaves(tmp_path):
    run_layer_test(
        ERLABlock,
        {"filters": 16, "groups": 4, "kernel_initializer": "he_normal", **ROBUST},
        (2, 5, 7, 16),
        tmp_path,
        expected_output_shape=(2, 5, 7, 16),
        stochastic=True,
        unmoved=("attention/kernel", "attention/bias", "attention/scale"),
    )


@pytest.mark.parametrize(
    ("channels", "kwargs", "projected"),
    [
        (8, {"filters": 8}, False),
        (4, {"filters": 8}, True),
        (8, {"filters": 8, "strides": 2}, True),
    ],
)
def test_shortcut_is_projected_where_the_shape_changes(channels, kwargs, projected):
    layer = ERLABlock(groups=4, **kwargs)
    layer.build((None, 6, 6, channels))
    assert (layer.shortcut_conv is not None) is projected
    assert (layer.shortcut_norm is not None) is projected


def test_children_start_from_values_of_their_own():
    layer = ERLABlock(16)
    layer.build((None, 6, 6, 16))
    kernels = [as_numpy(child.msgdc.kernel) for child in (layer.emila1, layer.emila2)]
    assert not np.array_equal(*kernels)


def test_training_uses_and_moves_the_statistics_of_the_batch():
    x = random_map((4, 6, 6, 16))
    layer = ERLABlock(32)
    layer.build(x.shape)
    at_inference = as_numpy(layer(x, training=False))
    before = [as_numpy(v) for v in layer.non_trainable_variables]
    in_training = as_numpy(layer(x, training=True))
    assert np.abs(in_training - at_inference).max() > 1e-3
    after = [as_numpy(v) for v in layer.non_trainable_variables]
    # Two in each EMILA, one behind each half of the block, one in the shortcut.
    assert len(after) == 2 * 7
    assert not any(np.array_equal(a, b) for a, b in zip(after, before, strict=True))


def test_multiply_adds():
    layer = ERLABlock(16, strides=2, groups=4)
    layer.build((None, 5, 7, 8))
    emila1 = 16 * 2 + 8 * 34 + 16 * 16 + 8 * 16
    emila2 = 16 * 4 + 16 * 34 + 16 * 24 + 16 * 16
    attention = 2 * 16 * 4
    expected = 12 * (emila1 + emila2 + 16 * 16 + 8 * 16) + 2 * attention
    assert layer.multiply_adds((None, 5, 7, 8)) == expected


def test_output_is_not_negative():
    x = random_map((2, 5, 5, 16))
    assert as_numpy(built(ERLABlock(16), x.shape)(x)).min() == 0


@pytest.mark.parametrize("filters", [0, -4, 2.5, "4"])
def test_bad_filters(filters):
    with pytest.raises(ValueError, match="filters"):
        ERLABlock(filters)


def test_groups_that_do_not_divide():
    with pytest.raises(ValueError, match="16 groups.* 8"):
        ERLABlock(16)(np.zeros((2, 4, 4, 8), "float32"))


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 3), (2, 4, 4, 4, 3)])
def test_wrong_rank(shape):
    with pytest.raises(ValueError, match="batch, height, width, channels"):
        ERLABlock(16)(np.zeros(shape, "float32"))
