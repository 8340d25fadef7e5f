"""CLIA (Eq. 3)."""

import numpy as np
import pytest

import oracle
from drifa_keras.layers import CLIA
from harness import (
    as_numpy,
    assert_close,
    built,
    clia_symbols,
    random_map,
    run_layer_test,
)


@pytest.mark.parametrize("shape", [(2, 5, 7, 4), (3, 1, 1, 3), (1, 6, 2, 1)])
def test_equations(shape):
    layer = built(CLIA(), shape)
    x = random_map(shape)
    assert_close(layer(x), oracle.clia(x, *clia_symbols(layer)))


def test_layer_behaves(tmp_path):
    run_layer_test(
        CLIA,
        {"kernel_initializer": "he_normal"},
        (2, 5, 7, 4),
        tmp_path,
        expected_output_shape=(2, 4),
        expected_params=2 * 4 * 4 + 2 * 4,
    )


def test_initial_values():
    channels = 48
    layer = CLIA()
    layer.build((None, None, None, channels))
    kernel = as_numpy(layer.kernel)
    assert kernel.shape == (2, channels, channels)
    limit = np.sqrt(6 / (2 * channels))
    for matrix in kernel:
        assert 0.97 * limit < np.abs(matrix).max() <= limit
        assert matrix.std() == pytest.approx(limit / np.sqrt(3), rel=0.05)
    assert not np.array_equal(kernel[0], kernel[1])
    assert layer.bias.shape == (2, channels)
    assert not as_numpy(layer.bias).any()


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 3), (2, 4, 4, 4, 3)])
def test_wrong_rank(shape):
    with pytest.raises(ValueError, match="batch, height, width, channels"):
        CLIA()(np.zeros(shape, "float32"))


def test_unknown_channels():
    with pytest.raises(ValueError, match="channels"):
        CLIA().build((None, 4, 4, None))
