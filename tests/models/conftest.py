"""Tiny networks and random data for them."""

import numpy as np
import pytest

from drifa_keras import DRIFANet

SIZE = 16
MODALITIES = {"ct": (SIZE, SIZE, 1), "skin": (SIZE, SIZE, 3)}
TASKS = {"lesion": 3, "nodule": 2}
PLAIN = {"filters": (4,), "stem": "small", "dropout_after": (), "dropout": 0.0}


@pytest.fixture(scope="session")
def make_plain():
    """Build one stage of two plain ResNet blocks: the quickest network to train."""

    def make(modalities=MODALITIES, tasks=TASKS, **arguments):
        arguments = {"mfa": False, "mifa": False, **PLAIN, **arguments}
        return DRIFANet(modalities, tasks, **arguments)

    return make


@pytest.fixture(scope="session")
def make_images():
    """Random images for every modality of a model, none of them blank."""

    def make(model, count=4, seed=0):
        generator = np.random.default_rng(seed)
        return {
            name: generator.integers(1, 256, (count, *shape)).astype("float32")
            for name, shape in model.modalities.items()
        }

    return make


@pytest.fixture(scope="session")
def make_targets():
    """One-hot labels for every task of a model, all classes in turn."""

    def make(model, count=4):
        return {
            task: np.eye(classes, dtype="float32")[np.arange(count) % classes]
            for task, classes in model.tasks.items()
        }

    return make
