"""The RRA block (Fig. 1C)."""

import numpy as np
import pytest

import oracle
from drifa_keras.layers import MFA, RRABlock
from harness import (
    as_numpy,
    assert_close,
    built,
    exact,
    expected_mfa,
    random_map,
    run_layer_test,
)


def conv_symbols(conv):
    return exact(conv.kernel), exact(conv.bias)


def norm_symbols(norm):
    return (
        exact(norm.gamma),
        exact(norm.beta),
        exact(norm.moving_mean),
        exact(norm.moving_variance),
        norm.epsilon,
    )


def expected_block(layer, x, strides=1, mfa=True):
    """What the block should give, by the oracle."""
    switches = mfa if isinstance(mfa, dict) else {}

    def attention(child):
        if mfa is False:
            return lambda y: y
        return lambda y: expected_mfa(child, y, **switches)

    shortcut = None
    if layer.shortcut_conv is not None:
        shortcut = (
            *conv_symbols(layer.shortcut_conv),
            norm_symbols(layer.shortcut_norm),
        )
    return oracle.rra_block(
        x,
        conv_symbols(layer.conv1),
        attention(layer.mfa1),
        norm_symbols(layer.norm1),
        conv_symbols(layer.conv2),
        attention(layer.mfa2),
        norm_symbols(layer.norm2),
        shortcut,
        strides,
    )


@pytest.mark.parametrize(
    ("shape", "kwargs"),
    [
        ((2, 5, 7, 4), {"filters": 4}),
        ((2, 5, 7, 3), {"filters": 4}),
        ((2, 5, 7, 4), {"filters": 4, "strides": 2}),
        ((2, 6, 8, 3), {"filters": 5, "strides": 2}),
        ((2, 1, 1, 3), {"filters": 5, "strides": 2}),
        ((1, 7, 8, 2), {"filters": 3, "strides": 3}),
        ((2, 5, 7, 4), {"filters": 4, "mfa": False}),
        ((2, 5, 6, 3), {"filters": 4, "strides": 2, "mfa": False}),
        ((2, 5, 7, 4), {"filters": 4, "mfa": {"hifa": False, "omega_c": False}}),
    ],
    ids=str,
)
def test_equations_at_inference(shape, kwargs):
    x = random_map(shape)
    layer = built(RRABlock(**kwargs), shape)
    settings = {name: kwargs[name] for name in ("strides", "mfa") if name in kwargs}
    assert_close(layer(x, training=False), expected_block(layer, x, **settings), 2e-5)


# Batch normalisation takes any constant off, so that a bias before it stays.
@pytest.mark.parametrize(
    ("shape", "kwargs", "output_shape", "params", "unmoved"),
    [
        (
            (2, 5, 7, 4),
            {"filters": 4},
            (2, 5, 7, 4),
            2 * (9 * 16 + 4) + 2 * (8 * 16 + 7 * 4 + 1 + 8) + 2 * 16,
            (),
        ),
        (
            (2, 5, 7, 2),
            {"filters": 4, "strides": 2, "mfa": {"clia": False, "omega_c": False}},
            (2, 3, 4, 4),
            (9 * 8 + 4)
            + (9 * 16 + 4)
            + 2 * (6 * 16 + 5 * 4 + 1)
            + 2 * 16
            + (8 + 4)
            + 16,
            ("shortcut_conv/bias",),
        ),
        (
            (2, 4, 4, 4),
            {"filters": 4, "mfa": False, "kernel_initializer": "he_normal"},
            (2, 4, 4, 4),
            2 * (9 * 16 + 4) + 2 * 16,
            ("conv1/bias", "conv2/bias"),
        ),
    ],
    ids=["identity", "projection", "plain"],
)
def test_layer_behaves(shape, kwargs, output_shape, params, unmoved, tmp_path):
    run_layer_test(
        RRABlock,
        kwargs,
        shape,
        tmp_path,
        expected_output_shape=output_shape,
        expected_params=params,
        unmoved=unmoved,
    )


@pytest.mark.parametrize(
    ("channels", "kwargs", "projected"),
    [
        (4, {"filters": 4}, False),
        (3, {"filters": 4}, True),
        (4, {"filters": 4, "strides": 2}, True),
    ],
)
def test_shortcut_is_projected_where_the_shape_changes(channels, kwargs, projected):
    layer = RRABlock(**kwargs)
    layer.build((None, 6, 6, channels))
    assert (layer.shortcut_conv is not None) is projected
    assert (layer.shortcut_norm is not None) is projected


def test_mfa_as_a_dict_reaches_both_children():
    layer = RRABlock(4, mfa={"hifa": False, "omega_d": False})
    layer.build((None, 6, 6, 4))
    for child in (layer.mfa1, layer.mfa2):
        assert isinstance(child, MFA)
        assert child.hifa is None and child.clia is not None
    assert layer.mfa1 is not layer.mfa2


def test_without_mfa():
    layer = RRABlock(4, mfa=False)
    assert layer.mfa1 is None and layer.mfa2 is None


def test_children_start_from_values_of_their_own():
    layer = RRABlock(4)
    layer.build((None, 6, 6, 4))
    assert np.abs(as_numpy(layer.conv1.kernel) - as_numpy(layer.conv2.kernel)).max() > 0
    assert not np.array_equal(
        as_numpy(layer.mfa1.hifa.kernel), as_numpy(layer.mfa2.hifa.kernel)
    )


def test_training_uses_and_moves_the_statistics_of_the_batch():
    x = random_map((4, 6, 6, 3))
    layer = RRABlock(4)
    layer.build(x.shape)
    at_inference = as_numpy(layer(x, training=False))
    before = [as_numpy(v) for v in layer.non_trainable_variables]
    in_training = as_numpy(layer(x, training=True))
    assert np.abs(in_training - at_inference).max() > 1e-3
    after = [as_numpy(v) for v in layer.non_trainable_variables]
    assert len(after) == 6
    assert not any(np.array_equal(a, b) for a, b in zip(after, before, strict=True))


def test_output_is_not_negative():
    x = random_map((2, 5, 5, 4))
    assert as_numpy(built(RRABlock(4), x.shape)(x)).min() == 0


@pytest.mark.parametrize("filters", [0, -4, 2.5, "4"])
def test_bad_filters(filters):
    with pytest.raises(ValueError, match="filters"):
        RRABlock(filters)


@pytest.mark.parametrize("strides", [0, -1, 1.5])
def test_bad_strides(strides):
    with pytest.raises(ValueError, match="strides"):
        RRABlock(4, strides=strides)


def test_mfa_without_branches():
    with pytest.raises(ValueError, match=r"hifa=False.*clia=False"):
        RRABlock(4, mfa={"hifa": False, "clia": False})


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 3), (2, 4, 4, 4, 3)])
def test_wrong_rank(shape):
    with pytest.raises(ValueError, match="batch, height, width, channels"):
        RRABlock(4)(np.zeros(shape, "float32"))


def test_unknown_channels():
    with pytest.raises(ValueError, match="channels"):
        RRABlock(4).build((None, 4, 4, None))
