"""RandomProjectionConv2D: trained filters beside filters drawn in every call."""

import keras
import numpy as np
import pytest

import oracle
import oracle_mail
from drifa_keras.layers import RandomProjectionConv2D, freeze_randomness
from harness import as_numpy, assert_close, built, exact, random_map, run_layer_test
from harness_mail import grouped


@pytest.mark.parametrize(
    ("shape", "kwargs"),
    [
        ((2, 5, 7, 4), {"filters": 6, "kernel_size": 3}),
        ((2, 5, 7, 4), {"filters": 6, "kernel_size": 1, "groups": 2}),
        ((2, 6, 8, 4), {"filters": 8, "kernel_size": 1, "groups": 4, "strides": 2}),
        ((1, 6, 5, 6), {"filters": 9, "kernel_size": 3, "groups": 3, "strides": 2}),
        ((1, 1, 1, 2), {"filters": 3, "kernel_size": 5, "use_bias": False}),
    ],
    ids=str,
)
def test_without_random_filters_it_is_a_grouped_convolution(shape, kwargs):
    x = random_map(shape)
    layer = built(RandomProjectionConv2D(random_ratio=0.0, **kwargs), shape)
    expected = oracle_mail.grouped_conv2d(
        x, exact(layer.kernel), layer.groups, layer.strides
    )
    if layer.use_bias:
        expected = expected + exact(layer.bias)
    assert_close(layer(x), expected)


@pytest.mark.parametrize("groups", [1, 4])
def test_random_filters_stand_behind_the_trained_ones_of_their_group(groups):
    x = random_map((2, 5, 7, 8))
    layer = built(RandomProjectionConv2D(16, 3, groups=groups), x.shape)
    with freeze_randomness(layer):
        kernel = grouped(exact(layer.draw_kernel()), groups)
        outputs = layer(x)
    expected = oracle_mail.grouped_conv2d(x, kernel, groups) + exact(layer.bias)
    assert_close(outputs, expected)
    by_group = kernel.reshape(3, 3, 8 // groups, groups, 16 // groups)
    trained = 12 // groups
    assert_close(
        by_group[..., :trained].reshape(layer.kernel.shape), exact(layer.kernel), 1e-6
    )
    drawn = by_group[..., trained:]
    assert len(np.unique(drawn)) == drawn.size


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_draws_have_mean_zero_and_variance_one_over_r_squared(kernel_size):
    layer = RandomProjectionConv2D(64, kernel_size, random_ratio=0.75, seed=1)
    layer.build((None, 4, 4, 64))
    drawn = exact(layer.draw_kernel())[..., 16:]
    deviation = 1 / kernel_size
    error = deviation / np.sqrt(drawn.size)
    assert abs(drawn.mean()) < 4 * error
    assert abs(drawn.std() - deviation) < 4 * error / np.sqrt(2)
    # Gaussian, not uniform: 4.6 % lie beyond two standard deviations.
    assert 0.03 < (np.abs(drawn) > 2 * deviation).mean() < 0.06


@pytest.mark.parametrize("training", [False, True])
def test_every_call_draws_anew(training):
    x = random_map((2, 5, 7, 4))
    layer = RandomProjectionConv2D(8, 3)
    first, second = (as_numpy(layer(x, training=training)) for _ in range(2))
    # The trained filters stay, the others change.
    assert np.array_equal(first[..., :6], second[..., :6])
    assert not np.isclose(first[..., 6:], second[..., 6:]).any()


def test_samples_of_a_batch_share_the_draw():
    x = np.repeat(random_map((1, 5, 7, 4)), 3, axis=0)
    outputs = as_numpy(RandomProjectionConv2D(8, 3)(x))
    assert_close(outputs[0], outputs[2], 1e-6)


def test_seed_repeats_the_draws():
    def draws(seed):
        layer = RandomProjectionConv2D(8, 3, seed=seed)
        layer.build((None, 5, 5, 4))
        return [as_numpy(layer.draw_kernel())[..., 6:] for _ in range(3)]

    first, again, other = draws(4), draws(4), draws(5)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], other[0])


def test_trained_filters_learn_and_random_ones_are_no_weights():
    layer = RandomProjectionConv2D(8, 3, groups=2)
    layer.build((None, 5, 5, 4))
    assert layer.kernel.shape == (3, 3, 2, 6)
    assert [tuple(w.shape) for w in layer.weights] == [(8,), (3, 3, 2, 6)]


@pytest.mark.parametrize(
    ("shape", "kwargs", "output_shape", "params"),
    [
        (
            (2, 5, 7, 4),
            {"filters": 8, "kernel_size": 3, "strides": 2, "seed": 3},
            (2, 3, 4, 8),
            9 * 4 * 6 + 8,
        ),
        (
            (2, 5, 7, 4),
            {
                "filters": 8,
                "kernel_size": 1,
                "groups": 2,
                "random_ratio": 0.5,
                "use_bias": False,
                "kernel_initializer": "he_normal",
            },
            (2, 5, 7, 8),
            2 * 4,
        ),
    ],
)
def test_layer_behaves(shape, kwargs, output_shape, params, tmp_path):
    run_layer_test(
        RandomProjectionConv2D,
        kwargs,
        shape,
        tmp_path,
        expected_output_shape=output_shape,
        expected_params=params,
        stochastic=True,
    )


def test_plain_layer_behaves(tmp_path):
    run_layer_test(
        RandomProjectionConv2D,
        {"filters": 6, "kernel_size": 3, "groups": 2, "random_ratio": 0.0},
        (2, 5, 7, 4),
        tmp_path,
        expected_output_shape=(2, 5, 7, 6),
        expected_params=9 * 2 * 6 + 6,
    )


def test_multiply_adds():
    layer = RandomProjectionConv2D(8, 3, strides=2, groups=2)
    # Of each of 3 x 4 cells, 8 filters over 3 x 3 cells of 2 channels.
    assert layer.multiply_adds((None, 5, 7, 4)) == 3 * 4 * 8 * 9 * 2


def test_works_in_a_compiled_step_of_jax():
    if keras.backend.backend() != "jax":
        pytest.skip("JAX alone")
    import jax

    x = random_map((2, 5, 7, 4))
    layer = RandomProjectionConv2D(8, 3)
    layer.build(x.shape)
    trainable = [v.value for v in layer.trainable_variables]
    state = [v.value for v in layer.non_trainable_variables]

    @jax.jit
    def step(trainable, state):
        def loss(trainable):
            y, new = layer.stateless_call(trainable, state, x)
            return keras.ops.sum(y**2), (y, new)

        gradients, (y, new) = jax.grad(loss, has_aux=True)(trainable)
        return gradients, y, new

    gradients, first, state = step(trainable, state)
    _, second, _ = step(trainable, state)
    assert all(np.abs(g).max() > 0 for g in gradients)
    assert np.array_equal(first[..., :6], second[..., :6])
    assert not np.isclose(first[..., 6:], second[..., 6:]).any()


@pytest.mark.parametrize("ratio", [1, 1.0, 1.5, -0.1])
def test_bad_ratio(ratio):
    with pytest.raises(ValueError, match="random_ratio.*below 1.*trained"):
        RandomProjectionConv2D(8, 3, random_ratio=ratio)


@pytest.mark.parametrize(
    ("filters", "groups", "ratio", "found"),
    [(8, 8, 0.75, "all"), (8, 8, 0.25, "none"), (2, 1, 0.2, "none")],
)
def test_ratio_that_leaves_no_filter_of_a_kind(filters, groups, ratio, found):
    layer = RandomProjectionConv2D(filters, 1, groups=groups, random_ratio=ratio)
    with pytest.raises(ValueError, match=f"{filters // groups} filters.*{found}"):
        layer.build((None, 4, 4, 8))


@pytest.mark.parametrize(
    ("channels", "filters", "named"), [(6, 8, "channels"), (8, 6, "filters")]
)
def test_groups_that_do_not_divide(channels, filters, named):
    layer = RandomProjectionConv2D(filters, 1, groups=4)
    with pytest.raises(ValueError, match=rf"{named} into 4 groups.*6"):
        layer.build((None, 4, 4, channels))


@pytest.mark.parametrize("argument", ["filters", "kernel_size", "strides", "groups"])
@pytest.mark.parametrize("value", [0, -1, 1.5])
def test_bad_number(argument, value):
    arguments = {"filters": 4, "kernel_size": 3, argument: value}
    with pytest.raises(ValueError, match=f"{argument}.*{value}"):
        RandomProjectionConv2D(**arguments)


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 3), (2, 4, 4, 4, 3)])
def test_wrong_rank(shape):
    with pytest.raises(ValueError, match="batch, height, width, channels"):
        RandomProjectionConv2D(4, 3)(np.zeros(shape, "float32"))


def test_agrees_with_a_plain_convolution_of_the_oracle():
    x = random_map((2, 5, 7, 4))
    layer = built(RandomProjectionConv2D(6, 3, strides=2, random_ratio=0.0), x.shape)
    expected = oracle.conv2d(x, exact(layer.kernel), exact(layer.bias), 2)
    assert_close(layer(x), expected)
