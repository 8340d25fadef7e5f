"""Small networks with dropout in every position, and data for them."""

import keras
import numpy as np
import pytest
from keras import layers

from drifa_keras import DRIFANet

MODALITIES = {"ct": (16, 16, 1), "skin": (16, 16, 3)}
TASKS = {"lesion": 3, "nodule": 2}


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """Two threads of PyTorch are slower than one on networks as small as these."""
    if keras.backend.backend() != "torch":
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make_dense():
    """A network of two hidden layers, with dropout between them."""

    def make(rate=0.5, dropout=layers.Dropout, units=16, classes=3):
        inputs = keras.Input((6,), name="features")
        x = layers.Dense(units, activation="relu", name="before")(inputs)
        x = layers.BatchNormalization(name="norm")(x)
        x = dropout(rate)(x)
        x = layers.Dense(units, activation="relu", name="after")(x)
        outputs = layers.Dense(classes, activation="softmax", name="grade")(x)
        return keras.Model(inputs, outputs)

    return make


@pytest.fixture(scope="session")
def make_drifa():
    """A DRIFA-Net of one stage with two modalities and tasks."""

    def make(**arguments):
        arguments = {
            "filters": (4,),
            "stem": "small",
            "dropout_after": (0,),
            "dropout": 0.25,
            "mfa": False,
            "mifa": {"mlifa": False},
            **arguments,
        }
        return DRIFANet(MODALITIES, TASKS, **arguments)

    return make


@pytest.fixture(scope="session")
def features():
    """Inputs of `make_dense`, nine samples."""
    return np.random.default_rng(0).standard_normal((9, 6)).astype("float32")


@pytest.fixture(scope="session")
def images():
    """Images for `make_drifa`, five samples."""
    generator = np.random.default_rng(0)
    return {
        name: generator.integers(1, 256, (5, *shape)).astype("uint8")
        for name, shape in MODALITIES.items()
    }
