"""HIFA (Eq. 1-2, Algorithm 1b)."""

import math

import keras
import numpy as np
import pytest
from keras import ops

import oracle
from drifa_keras.gradients import value_and_grad
from drifa_keras.layers import HIFA, hifa
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


def test_an_activation_that_does_not_keep_the_order():
    layer, x = built(HIFA(activation="gelu"), (2, 3, 4, 2)), random_map((2, 3, 4, 2))
    bias = as_numpy(layer.bias)
    bias[3] = -2  # gelu of -3 is above gelu of -2
    layer.bias.assign(bias)

    def gelu(z):
        return z * (1 + np.vectorize(math.erf)(z / math.sqrt(2))) / 2

    assert_close(layer(x), oracle.hifa(x, *hifa_symbols(layer), gelu))


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_gradient_of_the_last_maximum(activation, monkeypatch):
    layer = built(HIFA(activation=activation), (None, 3, 4, 2))
    x = random_map((3, 3, 4, 2))
    x[1] = x[1, :1, :1]  # all alike: they share the gradient
    inputs = keras.Input((3, 4, 2), name="x")
    model = keras.Model(inputs, layer(inputs))

    def gradient():
        gradient_of = value_and_grad(lambda outputs: ops.sum(outputs, axis=1), model)
        return as_numpy(gradient_of({"x": x})[1]["x"])

    found = gradient()
    # What the activation of a whole map, and then its maximum, pass on.
    monkeypatch.setattr(hifa, "_SQUASHING", ())
    assert np.abs(found).max() > 0
    assert_close(found, gradient())
    np.testing.assert_allclose(np.ptp(found[1], axis=(0, 1)), 0, atol=1e-7)


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
