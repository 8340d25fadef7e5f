"""RandomProjectionDepthwiseConv2D: some channels meet filters drawn in every call."""

import keras
import numpy as np
import pytest

import oracle_mail
from drifa_keras.depthwise import depthwise_conv
from drifa_keras.layers import RandomProjectionDepthwiseConv2D, freeze_randomness
from harness import as_numpy, assert_close, built, exact, random_map, run_layer_test


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("shape", [(2, 5, 8, 4), (2, 1, 1, 4)])
def test_equations(shape, strides, kernel_size):
    x = random_map(shape)
    layer = built(RandomProjectionDepthwiseConv2D(kernel_size, strides), shape)
    with freeze_randomness(layer):
        kernel = exact(layer.draw_kernel())
        outputs = layer(x)
    expected = oracle_mail.depthwise_conv2d(x, kernel[..., 0], strides)
    assert_close(outputs, expected + exact(layer.bias))
    assert np.array_equal(kernel[:, :, :3], exact(layer.kernel))


@pytest.mark.parametrize("kernel_size", [2, 3, 5])
@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("shape", [(2, 16, 33, 8), (2, 1, 64, 64)])
def test_large_maps(shape, strides, kernel_size):
    x = random_map(shape)
    kernel = random_map((kernel_size, kernel_size, shape[-1], 1))
    expected = oracle_mail.depthwise_conv2d(x, kernel[..., 0], strides)
    assert_close(
        depthwise_conv(keras.ops.array(x), keras.ops.array(kernel), strides), expected
    )


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="has its own on JAX alone")
@pytest.mark.parametrize("kernel_size", [2, 3, 5])
@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("shape", [(2, 16, 33, 8), (2, 1, 64, 64)])
def test_gradients_of_large_maps(shape, strides, kernel_size):
    import jax

    def convolution(x, kernel):
        return keras.ops.depthwise_conv(
            x, kernel, strides, "same", data_format="channels_last"
        )

    arguments = random_map(shape), random_map((kernel_size, kernel_size, shape[-1], 1))
    expected, gradients_of = jax.vjp(convolution, *arguments)
    _, found = jax.vjp(lambda *a: depthwise_conv(*a, strides), *arguments)
    upstream = random_map(expected.shape)
    for own, their in zip(found(upstream), gradients_of(upstream), strict=True):
        assert_close(own, np.asarray(their))


def test_without_random_filters_it_is_a_depthwise_convolution():
    x = random_map((2, 5, 7, 3))
    layer = built(
        RandomProjectionDepthwiseConv2D(3, random_ratio=0.0, use_bias=False), x.shape
    )
    expected = oracle_mail.depthwise_conv2d(x, exact(layer.kernel)[..., 0])
    assert_close(layer(x), expected)
    assert_close(layer(x), layer(x), 0)


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_draws_have_mean_zero_and_variance_one_over_r_squared(kernel_size):
    layer = RandomProjectionDepthwiseConv2D(kernel_size, random_ratio=0.5, seed=1)
    layer.build((None, 4, 4, 2000))
    drawn = exact(layer.draw_kernel())[:, :, 1000:]
    deviation = 1 / kernel_size
    error = deviation / np.sqrt(drawn.size)
    assert abs(drawn.mean()) < 4 * error
    assert abs(drawn.std() - deviation) < 4 * error / np.sqrt(2)


@pytest.mark.parametrize("training", [False, True])
def test_every_call_draws_anew(training):
    x = random_map((2, 5, 7, 8))
    layer = RandomProjectionDepthwiseConv2D(3)
    first, second = (as_numpy(layer(x, training=training)) for _ in range(2))
    assert np.array_equal(first[..., :6], second[..., :6])
    assert not np.isclose(first[..., 6:], second[..., 6:]).any()


def test_seed_repeats_the_draws():
    def draws(seed):
        layer = RandomProjectionDepthwiseConv2D(3, seed=seed)
        layer.build((None, 5, 5, 4))
        return [as_numpy(layer.draw_kernel())[:, :, 3:] for _ in range(3)]

    first, again, other = draws(4), draws(4), draws(5)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize(
    ("kwargs", "output_shape", "params", "stochastic"),
    [
        ({"kernel_size": 3, "strides": 2, "seed": 3}, (2, 3, 4, 4), 9 * 3 + 4, True),
        (
            {
                "kernel_size": 5,
                "random_ratio": 0.0,
                "use_bias": False,
                "kernel_initializer": "he_normal",
            },
            (2, 5, 7, 4),
            25 * 4,
            False,
        ),
    ],
)
def test_layer_behaves(kwargs, output_shape, params, stochastic, tmp_path):
    run_layer_test(
        RandomProjectionDepthwiseConv2D,
        kwargs,
        (2, 5, 7, 4),
        tmp_path,
        expected_output_shape=output_shape,
        expected_params=params,
        stochastic=stochastic,
    )


def test_multiply_adds():
    layer = RandomProjectionDepthwiseConv2D(3, strides=2)
    assert layer.multiply_adds((None, 5, 7, 4)) == 3 * 4 * 9 * 4


@pytest.mark.parametrize("ratio", [1, 1.5, -0.1])
def test_bad_ratio(ratio):
    with pytest.raises(ValueError, match="random_ratio.*below 1.*trained"):
        RandomProjectionDepthwiseConv2D(3, random_ratio=ratio)


@pytest.mark.parametrize(("ratio", "found"), [(0.9, "all"), (0.1, "none")])
def test_ratio_that_leaves_no_filter_of_a_kind(ratio, found):
    layer = RandomProjectionDepthwiseConv2D(3, random_ratio=ratio)
    with pytest.raises(ValueError, match=f"2 filters.*{found}"):
        layer.build((None, 4, 4, 2))


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 3), (2, 4, 4, 4, 3)])
def test_wrong_rank(shape):
    with pytest.raises(ValueError, match="batch, height, width, channels"):
        RandomProjectionDepthwiseConv2D(3)(np.zeros(shape, "float32"))
