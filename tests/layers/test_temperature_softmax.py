"""TemperatureSoftmax: the last step of a head."""

import keras
import numpy as np
import pytest

from drifa_keras.layers import TemperatureSoftmax
from harness import as_numpy, assert_close, random_map, run_layer_test


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
def test_equation(temperature):
    logits = random_map((4, 5))
    layer = TemperatureSoftmax()
    layer.build(logits.shape)
    layer.temperature.assign(temperature)
    powers = np.exp(logits.astype("float64") / temperature)
    assert_close(layer(logits), powers / powers.sum(axis=1, keepdims=True), 1e-6)


def test_layer_behaves(tmp_path):
    run_layer_test(
        TemperatureSoftmax,
        {},
        (2, 5),
        tmp_path,
        expected_output_shape=(2, 5),
        expected_params=1,
    )


def test_temperature_is_one_and_not_trained():
    layer = TemperatureSoftmax()
    layer.build((None, 5))
    assert as_numpy(layer.temperature) == 1
    assert not layer.trainable_weights
    assert len(layer.non_trainable_weights) == 1


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_is_float32_under_a_mixed_policy(policy):
    keras.config.set_dtype_policy(policy)
    layer = TemperatureSoftmax()
    assert layer.compute_dtype == "float32"
    logits = keras.ops.cast(random_map((4, 5)), layer.compute_dtype)
    assert keras.backend.standardize_dtype(layer(logits).dtype) == "float32"
