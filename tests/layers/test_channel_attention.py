"""ChannelAttention (Fig. 2E)."""

import keras
import numpy as np
import pytest

from drifa_keras.layers import ChannelAttention, freeze_randomness
from harness import as_numpy, assert_close, built, random_map, run_layer_test
from harness_mail import expected_channel_attention


def expected(layer, x):
    return expected_channel_attention(layer, x)[:, None, None, :]


@pytest.mark.parametrize("kwargs", [{}, {"released": True}, {"reduction": 3}], ids=str)
@pytest.mark.parametrize("shape", [(2, 5, 7, 8), (3, 1, 1, 3), (1, 6, 2, 1)])
def test_equations(shape, kwargs):
    # Small values, so that the sum of the released form does not saturate.
    x = random_map(shape) / 10
    layer = built(ChannelAttention(**kwargs), shape)
    assert_close(layer(x), expected(layer, x))


@pytest.mark.parametrize("released", [False, True])
def test_equations_with_noise(released):
    x = random_map((2, 5, 7, 8)) / 10
    layer = built(ChannelAttention(released=released, noise_stddev=0.6), x.shape)
    with freeze_randomness(layer):
        outputs = as_numpy(layer(x))
        assert_close(outputs, expected(layer, x))
    assert np.abs(as_numpy(layer(x)) - outputs).max() > 1e-2


def test_only_the_released_form_depends_on_the_size_of_the_map():
    x = random_map((2, 4, 4, 8))
    large = x.repeat(3, axis=1).repeat(3, axis=2)
    for released in (False, True):
        layer = built(ChannelAttention(released=released), x.shape)
        same = np.allclose(as_numpy(layer(large)), as_numpy(layer(x)), atol=1e-5)
        assert same is not released


def test_initial_values():
    layers = [ChannelAttention(released=released) for released in (False, True)]
    for layer in layers:
        layer.build((None, 4, 4, 32))
        assert np.abs(as_numpy(layer.kernel)).max() <= np.sqrt(6 / (32 + 8))
        assert not as_numpy(layer.bias).any()
    assert as_numpy(layers[0].scale) == 1
    # The released scale is random, of either sign and a deviation of sqrt 2.
    scales = []
    for seed in range(200):
        keras.utils.set_random_seed(seed)
        layer = ChannelAttention(released=True)
        layer.build((None, 4, 4, 4))
        scales.append(float(as_numpy(layer.scale)))
    assert np.std(scales) == pytest.approx(np.sqrt(2), rel=0.2)
    assert min(scales) < -1 and max(scales) > 1


@pytest.mark.parametrize(
    ("kwargs", "params", "stochastic", "unmoved"),
    [
        ({"reduction": 1}, 2 * 64 + 16 + 1, False, ()),
        (
            {"reduction": 2, "released": True, "kernel_initializer": "he_normal"},
            2 * 32 + 12 + 1,
            False,
            # The sum over the map saturates the logistic function.
            ("kernel", "bias", "scale"),
        ),
        ({"reduction": 1, "noise_stddev": 0.6}, 2 * 64 + 16 + 2, True, ()),
    ],
)
def test_layer_behaves(kwargs, params, stochastic, unmoved, tmp_path):
    run_layer_test(
        ChannelAttention,
        kwargs,
        (2, 5, 7, 8),
        tmp_path,
        expected_output_shape=(2, 1, 1, 8),
        expected_params=params,
        stochastic=stochastic,
        unmoved=unmoved,
    )


def test_released_noise_is_not_trained():
    for released in (False, True):
        layer = ChannelAttention(released=released, noise_stddev=0.6)
        layer.build((None, 4, 4, 8))
        assert layer.noise.weight.trainable is not released
        assert layer.noise.released is released


def test_multiply_adds():
    assert ChannelAttention().multiply_adds((None, 5, 7, 16)) == 2 * 16 * 4
    assert ChannelAttention().multiply_adds((None, 5, 7, 2)) == 2 * 2 * 1


@pytest.mark.parametrize("reduction", [0, -1, 0.5])
def test_bad_reduction(reduction):
    with pytest.raises(ValueError, match="reduction"):
        ChannelAttention(reduction)


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 3), (2, 4, 4, 4, 3)])
def test_wrong_rank(shape):
    with pytest.raises(ValueError, match="batch, height, width, channels"):
        ChannelAttention()(np.zeros(shape, "float32"))
