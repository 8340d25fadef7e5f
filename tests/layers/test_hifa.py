"""HIFA (Eq. 1-2, Algorithm 1b)."""

import keras
import numpy as np
import pytest

import oracle
from drifa_keras.layers import HIFA
from harness import (
    as_numpy,
    assert_close,
    built,
    hifa_symbols,
    random_map,
    run_layer_test,
)


@pytest.mark.parametrize("shape", [(2, 5, 7, 4), (3, 1, 1, 3), (1, 6, 2, 1)])
@pytest.mark.parametrize("activation", ["sigmoid", "relu", None])
def test_equations(shape, activation):
    layer = built(HIFA(activation=activation), shape)
    x = random_map(shape)
    expected = oracle.hifa(x, *hifa_symbols(layer), oracle.ACTIVATIONS[activation])
    assert_close(layer(x), expected)


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_layer_behaves(activation, tmp_path):
    run_layer_test(
        HIFA,
        {"activation": activation, "kernel_initializer": "he_normal"},
        (2, 5, 7, 4),
        tmp_path,
        expected_output_shape=(2, 4),
        expected_params=6 * 4 * 4 + 5 * 4,
    )


def test_initial_values():
    channels = 48
    layer = HIFA()
    layer.build((None, None, None, channels))
    kernel = as_numpy(layer.kernel)
    assert kernel.shape == (6, channels, channels)
    own, final = np.sqrt(6 / (2 * channels)), np.sqrt(6 / (3 * channels))
    for index, limit in enumerate([own] * 4 + [final] * 2):
        assert 0.97 * limit < np.abs(kernel[index]).max() <= limit
        assert kernel[index].std() == pytest.approx(limit / np.sqrt(3), rel=0.05)
    assert len({float(matrix[0, 0]) for matrix in kernel}) == 6
    assert layer.bias.shape == (5, channels)
    assert not as_numpy(layer.bias).any()


def test_seeded_initializer_draws_differing_matrices():
    def kernel():
        layer = HIFA(kernel_initializer=keras.initializers.HeNormal(seed=3))
        layer.build((None, 4, 4, 5))
        return as_numpy(layer.kernel)

    first, second = kernel(), kernel()
    assert np.array_equal(first, second)
    assert len({float(matrix[0, 0]) for matrix in first}) == 6


def test_order_of_pixels_does_not_matter():
    x = random_map((2, 4, 6, 3))
    layer = built(HIFA(), x.shape)
    assert_close(layer(x[:, ::-1].reshape(2, 6, 4, 3)), layer(x))


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 3), (2, 4, 4, 4, 3)])
def test_wrong_rank(shape):
    with pytest.raises(ValueError, match="batch, height, width, channels"):
        HIFA()(np.zeros(shape, "float32"))


def test_unknown_channels():
    with pytest.raises(ValueError, match="channels"):
        HIFA().build((None, 4, 4, None))


def test_unknown_activation():
    with pytest.raises(ValueError, match="sigmiod"):
        HIFA(activation="sigmiod")
