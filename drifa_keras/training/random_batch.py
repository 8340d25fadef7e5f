"""A batch to time a step with."""

from __future__ import annotations

import keras
import numpy as np


def random_batch(model: keras.Model, size: int) -> tuple:
    """Random images and one-hot labels, for a step that is timed.

    Args:
        model: A Functional model.
        size: Number of samples.

    Returns:
        uint8 images and float32 labels, each in the structure of the model's inputs
        and outputs: dicts where it has dicts.
    """
    rng = np.random.default_rng(0)

    def labels(output):
        *places, classes = output.shape[1:]
        return np.eye(classes, dtype="float32")[
            rng.integers(classes, size=(size, *places))
        ]

    return (
        keras.tree.map_structure(
            lambda image: rng.integers(
                256, size=(size, *image.shape[1:]), dtype="uint8"
            ),
            model.input,
        ),
        keras.tree.map_structure(labels, model.output),
    )
