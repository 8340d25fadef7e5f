"""AttentionNoise: Gaussian noise with a learned weight."""

import keras
import numpy as np
import pytest

from drifa_keras.layers import AttentionNoise, freeze_randomness
from harness import as_numpy, run_layer_test

ZEROS = np.zeros((200, 10, 10, 10), "float32")


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("stddev", "weight"), [(0.6, 1.0), (0.6, -0.5), (2.0, 0.1)])
def test_noise_has_mean_zero_and_the_stated_deviation(stddev, weight, training):
    layer = AttentionNoise(stddev, seed=3)
    layer.build(ZEROS.shape)
    layer.weight.assign(weight)
    noise = as_numpy(layer(ZEROS, training=training))
    deviation = abs(weight) * stddev
    error = deviation / np.sqrt(noise.size)
    assert abs(noise.mean()) < 4 * error
    assert abs(noise.std() - deviation) < 4 * error / np.sqrt(2)


def test_noise_is_added():
    x = np.linspace(-3, 3, 24, dtype="float32").reshape(2, 3, 4)
    layer = AttentionNoise(seed=3)
    with freeze_randomness(layer):
        difference = as_numpy(layer(x)) - as_numpy(layer(np.zeros_like(x)))
    np.testing.assert_allclose(difference, x, atol=1e-6)


def test_released_noise_is_biased_and_clipped():
    layer = AttentionNoise(0.6, released=True, seed=3)
    # Before the clip its mean is w sigma^2 = 0.36 and its least value -w / 4: with
    # A = 0.7 no entry falls below 0.45, and 36 % sit at 1.
    outputs = as_numpy(layer(ZEROS + 0.7))
    assert outputs.min() >= 0.45 - 1e-6 and outputs.max() == 1
    assert (outputs == 1).mean() == pytest.approx(0.36, abs=0.01)
    shifted = as_numpy(layer(ZEROS - 50))
    assert not shifted.any()


def test_released_form_on_the_draw_of_the_other():
    x = np.linspace(-1, 2, 60, dtype="float32").reshape(3, 4, 5)
    noise, released = AttentionNoise(seed=1), AttentionNoise(seed=1, released=True)
    noise.build(x.shape)
    released.build(x.shape)
    released.weight.assign(0.5)
    n = as_numpy(noise(np.zeros_like(x)))
    expected = np.clip(x + n * (0.5 + 0.5 * n), 0, 1)
    np.testing.assert_allclose(as_numpy(released(x)), expected, atol=1e-6)


def test_every_call_and_every_sample_draws_anew():
    layer = AttentionNoise()
    first, second = (as_numpy(layer(ZEROS[:4])) for _ in range(2))
    assert not np.isclose(first, second, atol=1e-7).all(axis=(1, 2, 3)).any()
    assert not np.isclose(first[0], first[1], atol=1e-7).all()


def test_seed_repeats_the_draws():
    def draws(seed):
        layer = AttentionNoise(seed=seed)
        return [as_numpy(layer(ZEROS[:2])) for _ in range(3)]

    first, again, other = draws(4), draws(4), draws(5)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], other[0])


def test_weight_starts_at_one_and_is_trained_unless_told():
    for learn in (True, False):
        layer = AttentionNoise(learn_weight=learn)
        layer.build((None, 4))
        assert float(as_numpy(layer.weight)) == 1
        assert layer.weight.trainable is learn


def test_training_shrinks_the_weight_of_noise_that_harms():
    inputs = keras.Input((50,))
    layer = AttentionNoise()
    model = keras.Model(inputs, layer(inputs))
    model.compile(keras.optimizers.SGD(0.5), "mse")
    x = np.zeros((64, 50), "float32")
    model.fit(x, x, epochs=20, verbose=0)
    assert abs(float(as_numpy(layer.weight))) < 0.1


@pytest.mark.parametrize("shape", [(2, 5, 7, 4), (3, 8)])
def test_layer_behaves(shape, tmp_path):
    run_layer_test(
        AttentionNoise,
        {"stddev": 0.5, "seed": 5},
        shape,
        tmp_path,
        expected_output_shape=shape,
        expected_params=1,
        stochastic=True,
    )


def test_released_layer_behaves(tmp_path):
    run_layer_test(
        AttentionNoise,
        {"released": True, "learn_weight": False},
        (2, 5, 7, 4),
        tmp_path,
        expected_params=1,
        stochastic=True,
    )


def test_without_spread_nothing_changes():
    x = ZEROS + 3
    assert np.array_equal(as_numpy(AttentionNoise(0.0)(x)), x)


@pytest.mark.parametrize("stddev", [-0.1, float("nan")])
def test_bad_deviation(stddev):
    with pytest.raises(ValueError, match="stddev"):
        AttentionNoise(stddev)
