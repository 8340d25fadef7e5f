"""MSGDC (Fig. 2G): grouped and depthwise convolutions, shuffled and fused."""

import numpy as np
import pytest

import oracle_mail
from drifa_keras.layers import MSGDC, freeze_randomness
from harness import as_numpy, assert_close, built, random_map, run_layer_test
from harness_mail import expected_msgdc

CASES = [
    ((2, 5, 7, 8), {"filters": 8, "groups": 4}),
    ((2, 5, 6, 8), {"filters": 16, "groups": 4, "strides": 2}),
    ((2, 5, 7, 16), {"filters": 32}),
    ((2, 1, 1, 8), {"filters": 8, "groups": 2, "strides": 2}),
    ((2, 5, 7, 8), {"filters": 8, "groups": 8, "fuse_groups": 4}),
    # 3 channels a group: halves of the fusion begin within a group.
    ((2, 4, 4, 6), {"filters": 6, "groups": 6}),
    ((2, 5, 7, 8), {"filters": 8, "groups": 4, "use_bias": True}),
    ((2, 5, 7, 8), {"filters": 4, "groups": 4, "normalization": "all"}),
    (
        (2, 6, 7, 8),
        {
            "filters": 12,
            "groups": 4,
            "strides": 2,
            "normalization": "all",
            "use_bias": True,
        },
    ),
    (
        (2, 5, 7, 8),
        {"filters": 8, "groups": 4, "fuse_groups": 1, "normalization": None},
    ),
    ((1, 5, 7, 4), {"filters": 4, "groups": 1, "fuse_groups": 1}),
]


@pytest.mark.parametrize(("shape", "kwargs"), CASES, ids=str)
def test_equations(shape, kwargs):
    x = random_map(shape)
    layer = built(MSGDC(**kwargs), shape)
    assert_close(layer(x, training=False), expected_msgdc(layer, x))


@pytest.mark.parametrize("normalization", ["output", "all", None])
def test_equations_with_random_filters(normalization):
    x = random_map((2, 5, 7, 16))
    layer = MSGDC(16, groups=4, normalization=normalization, random_ratio=0.25)
    built(layer, x.shape)
    with freeze_randomness(layer):
        outputs = layer(x, training=False)
        assert_close(outputs, expected_msgdc(layer, x))
    assert np.abs(as_numpy(layer(x)) - as_numpy(outputs)).max() > 1e-2


def test_shuffle_of_the_oracle_is_that_of_the_released_code():
    x = random_map((1, 2, 2, 12))
    expected = x.reshape(1, 2, 2, 4, 3).transpose(0, 1, 2, 4, 3).reshape(1, 2, 2, 12)
    assert np.array_equal(oracle_mail.shuffle(x, 4), expected)


@pytest.mark.parametrize(
    ("shape", "kwargs", "output_shape", "params", "unmoved"),
    [
        (
            (2, 5, 7, 8),
            {"filters": 8, "groups": 4},
            (2, 5, 7, 8),
            2 * 8 + 9 * 8 + 25 * 8 + 12 * 8 + 4 * 8,
            (),
        ),
        (
            (2, 5, 7, 8),
            {
                "filters": 16,
                "strides": 2,
                "groups": 4,
                "normalization": "all",
                "use_bias": True,
                "norm_momentum": 0.9,
                "kernel_initializer": "he_normal",
            },
            (2, 3, 4, 16),
            2 * 16 + 34 * 8 + 16 * 16 + (32 + 16) + 4 * (32 + 16),
            ("/bias",),
        ),
        (
            (2, 4, 4, 8),
            {
                "filters": 8,
                "groups": 2,
                "fuse_groups": 1,
                "normalization": None,
                "use_bias": True,
            },
            (2, 4, 4, 8),
            4 * 8 + 34 * 8 + 24 * 8 + (24 + 8),
            (),
        ),
    ],
)
def test_layer_behaves(shape, kwargs, output_shape, params, unmoved, tmp_path):
    run_layer_test(
        MSGDC,
        kwargs,
        shape,
        tmp_path,
        expected_output_shape=output_shape,
        expected_params=params,
        unmoved=unmoved,
    )


def test_random_layer_behaves(tmp_path):
    run_layer_test(
        MSGDC,
        {"filters": 8, "groups": 2, "random_ratio": 0.25},
        (2, 5, 7, 8),
        tmp_path,
        expected_params=4 * 6 + 34 * 6 + 12 * 8 + 4 * 8,
        stochastic=True,
    )


def test_multiply_adds():
    layer = MSGDC(16, strides=2, groups=4)
    of_a_cell = 16 * 2 + 8 * 9 + 8 * 25 + 16 * (16 + 2 * 8) // 2
    assert layer.multiply_adds((None, 5, 7, 8)) == 3 * 4 * of_a_cell


def test_biases_in_front_of_a_normalisation_change_nothing():
    x = random_map((4, 5, 7, 8))
    layer = built(MSGDC(8, groups=4, use_bias=True), x.shape)
    outputs = as_numpy(layer(x, training=True))
    layer.bias.assign(as_numpy(layer.bias) + 1)
    assert_close(layer(x, training=True), outputs, 1e-4)


@pytest.mark.parametrize(
    ("channels", "filters", "named"),
    [(8, 24, "channels.* 8"), (16, 8, "filters.* 8")],
)
def test_groups_that_do_not_divide(channels, filters, named):
    with pytest.raises(ValueError, match=f"into 16 groups|{named}"):
        MSGDC(filters).build((None, 4, 4, channels))


def test_fusing_groups_that_do_not_divide():
    with pytest.raises(ValueError, match="into 2 groups.* 5"):
        MSGDC(5, groups=1).build((None, 4, 4, 5))


@pytest.mark.parametrize("normalization", ["branches", True, ""])
def test_bad_normalization(normalization):
    with pytest.raises(ValueError, match="normalization"):
        MSGDC(8, normalization=normalization)


@pytest.mark.parametrize("argument", ["filters", "strides", "groups", "fuse_groups"])
def test_bad_number(argument):
    with pytest.raises(ValueError, match=argument):
        MSGDC(**{"filters": 8, argument: 0})


def test_all_filters_random():
    with pytest.raises(ValueError, match="random_ratio.*below 1"):
        MSGDC(8, random_ratio=1)


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 3), (2, 4, 4, 4, 3)])
def test_wrong_rank(shape):
    with pytest.raises(ValueError, match="batch, height, width, channels"):
        MSGDC(16)(np.zeros(shape, "float32"))
