"""GlobalMinPooling2D."""

import keras
import numpy as np
import pytest

import oracle
from drifa_keras.layers import GlobalMinPooling2D
from harness import assert_close, random_map, run_layer_test


@pytest.mark.parametrize("shape", [(2, 5, 7, 4), (3, 1, 1, 3), (1, 6, 2, 1)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_least_value_of_each_channel(shape, keepdims):
    x = random_map(shape)
    expected = oracle.global_min_pooling(x, keepdims)
    assert_close(GlobalMinPooling2D(keepdims=keepdims)(x), expected, 0)


def test_is_max_pooling_upside_down():
    x = random_map((2, 5, 7, 4))
    upside_down = -keras.layers.GlobalMaxPooling2D()(-x)
    assert_close(GlobalMinPooling2D()(x), upside_down, 0)


@pytest.mark.parametrize(("keepdims", "shape"), [(False, (2, 4)), (True, (2, 1, 1, 4))])
def test_layer_behaves(keepdims, shape, tmp_path):
    run_layer_test(
        GlobalMinPooling2D,
        {"keepdims": keepdims},
        (2, 5, 7, 4),
        tmp_path,
        expected_output_shape=shape,
        expected_params=0,
    )


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 3), (2, 4, 4, 4, 3)])
def test_wrong_rank(shape):
    with pytest.raises(ValueError, match="batch, height, width, channels"):
        GlobalMinPooling2D()(np.zeros(shape, "float32"))


def test_gradient_goes_to_the_least_values_alone():
    x = random_map((2, 3, 4, 2))
    x[0, 1, 2] = x[0, 0, 0] = -9  # a tie, which shares the gradient
    weight = keras.layers.DepthwiseConv2D(1, use_bias=False)
    model = keras.Sequential([keras.Input((3, 4, 2)), weight, GlobalMinPooling2D()])
    weight.set_weights([np.ones((1, 1, 2, 1), "float32")])
    model.compile(keras.optimizers.SGD(1.0), loss=lambda y, p: keras.ops.sum(p - y))
    model.train_on_batch(x, np.zeros((2, 2), "float32"))
    # d/dw of the sum over the batch of min(w x) at w = 1
    expected = 1 - x.min(axis=(1, 2)).sum(axis=0)
    np.testing.assert_allclose(weight.get_weights()[0].ravel(), expected, rtol=1e-5)
