"""Small classifiers to attack."""

import keras
import pytest

from harness_robustness import Linear

L = keras.layers


@pytest.fixture(scope="module")
def linear():
    """Two inputs, tasks of three and of four classes."""
    return Linear({"t": 3, "u": 4})


@pytest.fixture(scope="module")
def two_class():
    """Two inputs and a task of two classes, whose worst case is known."""
    return Linear({"t": 2})


@pytest.fixture(scope="module")
def convnet():
    """One input of 8 px, three classes, and layers with a state."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 3), name="image")
    x = L.Conv2D(6, 3, activation="relu")(L.Rescaling(1 / 255)(inputs))
    x = L.BatchNormalization()(x)
    x = L.Flatten()(L.Dropout(0.5, seed=3)(x))
    return keras.Model(inputs, L.Dense(3, name="kind")(x))
