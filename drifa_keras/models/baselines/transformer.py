"""Parts of the Transformers among the comparators, on maps whose cells are tokens."""

import keras

from drifa_keras.models.encoder_decoder import drop


def normalization(name, dtype):
    """A layer normalisation of the channels of each cell."""
    return keras.layers.LayerNormalization(epsilon=1e-6, dtype=dtype, name=name)


def dense(units, name, dtype, activation=None):
    """A fully connected layer for each cell."""
    return keras.layers.Dense(units, activation=activation, dtype=dtype, name=name)


def residual(x, y, dropout, name, dtype):
    """The sum of x and y, with dropout on y."""
    y = drop(y, dropout, name, dtype)
    return keras.layers.Add(dtype=dtype, name=f"{name}_residual")([x, y])
