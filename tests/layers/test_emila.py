"""EMILA (Fig. 2D), in MAIL and in Robust-MAIL."""

import numpy as np
import pytest

from drifa_keras.layers import EMILA, freeze_randomness
from harness import as_numpy, assert_close, built, random_map, run_layer_test
from harness_mail import expected_emila

ROBUST = {"random_ratio": 0.25, "noise_stddev": 0.6}


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize(
    ("shape", "kwargs"),
    [
        ((2, 5, 7, 8), {"filters": 8, "groups": 4}),
        ((2, 5, 6, 8), {"filters": 16, "groups": 4, "strides": 2}),
        ((2, 1, 1, 16), {"filters": 32}),
    ],
    ids=str,
)
def test_equations(shape, kwargs, released):
    x = random_map(shape) / 10
    layer = built(EMILA(released=released, **kwargs), shape)
    assert_close(layer(x, training=False), expected_emila(layer, x))


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize(
    "randomness",
    [ROBUST, {"random_ratio": 0.25}, {"noise_stddev": 0.6}],
    ids=str,
)
def test_equations_of_robust_mail(randomness, released):
    x = random_map((2, 5, 6, 8)) / 10
    layer = EMILA(16, strides=2, groups=4, released=released, **randomness)
    built(layer, x.shape)
    with freeze_randomness(layer):
        outputs = as_numpy(layer(x, training=False))
        assert_close(outputs, expected_emila(layer, x))
    assert np.abs(as_numpy(layer(x, training=False)) - outputs).max() > 1e-3


# Channels of 32, so that of 8 hidden units of the attention some are alive.
@pytest.mark.parametrize(
    ("kwargs", "params", "unmoved"),
    [
        (
            {"filters": 32, "groups": 4, "norm_momentum": 0.9},
            # MSGDC, attention, projection
            (8 * 32 + 34 * 32 + 48 * 32 + 4 * 32)
            + (2 * 32 * 8 + 8 + 32 + 1)
            + (32 * 32 + 4 * 32),
            (),
        ),
        (
            {
                "filters": 32,
                "groups": 4,
                "released": True,
                "kernel_initializer": "he_normal",
            },
            (8 * 32 + 34 * 32 + 48 * 32 + 4 * 32 + 4 * 32)
            + (2 * 32 * 8 + 8 + 32 + 1)
            + (32 * 32 + 32 + 4 * 32),
            ("msgdc/bias", "projection/bias", "attention/kernel", "attention/bias"),
        ),
    ],
)
def test_layer_behaves(kwargs, params, unmoved, tmp_path):
    run_layer_test(
        EMILA,
        kwargs,
        (2, 5, 7, 32),
        tmp_path,
        expected_output_shape=(2, 5, 7, 32),
        expected_params=params,
        unmoved=unmoved,
    )


@pytest.mark.parametrize("released", [False, True])
def test_robust_layer_behaves(released, tmp_path):
    run_layer_test(
        EMILA,
        {"filters": 16, "strides": 2, "groups": 4, "released": released, **ROBUST},
        (2, 5, 7, 16),
        tmp_path,
        expected_output_shape=(2, 3, 4, 16),
        stochastic=True,
        unmoved=(
            "/bias",
            "attention/kernel",
            "attention/scale",
        ),
    )


def test_robust_layer_normalises_every_branch():
    for randomness in ({"random_ratio": 0.25}, {"noise_stddev": 0.6}):
        assert EMILA(16, **randomness).msgdc.normalization == "all"
    assert EMILA(16).msgdc.normalization == "output"


def test_weight_of_the_noise_is_trained_but_in_the_released_form():
    for released in (False, True):
        layer = EMILA(16, noise_stddev=0.6, released=released)
        layer.build((None, 4, 4, 16))
        trained = {layer.noise.weight.trainable, layer.attention.noise.weight.trainable}
        assert trained == {not released}


def test_released_robust_layer_has_no_residual():
    x = random_map((2, 5, 7, 16))
    layer = built(EMILA(16, noise_stddev=0.6, released=True), x.shape)
    layer.msgdc.norm.gamma.assign(np.zeros(16))
    layer.msgdc.norm.beta.assign(np.zeros(16))
    # u = 0: nothing of the projection comes through.
    assert not as_numpy(layer(x)).any()


def test_multiply_adds():
    layer = EMILA(16, strides=2, groups=4)
    msgdc = 16 * 2 + 8 * 34 + 16 * 16
    expected = 3 * 4 * (msgdc + 8 * 16) + 2 * 16 * 4
    assert layer.multiply_adds((None, 5, 7, 8)) == expected


def test_groups_that_do_not_divide():
    with pytest.raises(ValueError, match="16 groups.* 24"):
        EMILA(24)(np.zeros((2, 4, 4, 32), "float32"))


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 3), (2, 4, 4, 4, 3)])
def test_wrong_rank(shape):
    with pytest.raises(ValueError, match="batch, height, width, channels"):
        EMILA(16)(np.zeros(shape, "float32"))
