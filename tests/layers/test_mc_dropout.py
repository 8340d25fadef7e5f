"""MCDropout: dropout that can stay on at inference."""

import keras
import numpy as np
import pytest

from drifa_keras.layers import MCDropout
from harness import as_numpy, run_layer_test

ONES = np.ones((20, 50), "float32")


@pytest.mark.parametrize("always_on", [False, True])
def test_layer_behaves(always_on, tmp_path):
    run_layer_test(
        MCDropout,
        {"rate": 0.25, "seed": 5, "always_on": always_on},
        (2, 5, 7, 4),
        tmp_path,
        expected_output_shape=(2, 5, 7, 4),
        expected_params=0,
        stochastic=always_on,
    )


def test_is_a_keras_dropout():
    assert isinstance(MCDropout(0.5), keras.layers.Dropout)


def test_without_always_on_inference_is_the_identity():
    layer = MCDropout(0.5)
    assert np.array_equal(as_numpy(layer(ONES)), ONES)
    assert np.array_equal(as_numpy(layer(ONES, training=False)), ONES)


@pytest.mark.parametrize(
    ("always_on", "training"),
    [(False, True), (True, True), (True, False), (True, None)],
)
def test_drops_and_scales(always_on, training):
    layer = MCDropout(0.25, seed=1, always_on=always_on)
    values = as_numpy(layer(ONES, training=training))
    kept = values != 0
    assert np.allclose(values[kept], 1 / 0.75)
    assert 0.70 < kept.mean() < 0.80


def test_passes_of_predict_differ():
    inputs = keras.Input((50,))
    model = keras.Model(inputs, MCDropout(0.5, seed=1, always_on=True)(inputs))
    first = model.predict(ONES, verbose=0)
    second = model.predict(ONES, verbose=0)
    assert (first != second).mean() > 0.3


def test_passes_differ_after_reloading(tmp_path):
    inputs = keras.Input((50,))
    model = keras.Model(inputs, MCDropout(0.5, always_on=True)(inputs))
    model.save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    assert model.layers[-1].always_on is True
    first, second = (model.predict(ONES, verbose=0) for _ in range(2))
    assert (first != second).mean() > 0.3


def test_seed_repeats_the_draws():
    def draws():
        layer = MCDropout(0.5, seed=9, always_on=True)
        return [as_numpy(layer(ONES)) for _ in range(3)]

    first, second = draws(), draws()
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0], first[1])


def test_noise_shape_drops_whole_channels():
    layer = MCDropout(0.5, noise_shape=(None, 1, 1, 8), seed=2, always_on=True)
    x = np.ones((6, 3, 4, 8), "float32")
    kept = as_numpy(layer(x)) != 0
    assert np.array_equal(kept, np.broadcast_to(kept[:, :1, :1], kept.shape))
    assert 0 < kept.mean() < 1


def test_rate_zero_is_the_identity():
    layer = MCDropout(0.0, always_on=True)
    assert np.array_equal(as_numpy(layer(ONES)), ONES)


@pytest.mark.parametrize("rate", [-0.1, 1.5])
def test_bad_rate(rate):
    with pytest.raises(ValueError, match="rate"):
        MCDropout(rate)
