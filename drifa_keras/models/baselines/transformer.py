"""Parts of the Transformers among the comparators, on maps whose cells are tokens."""

import keras

from drifa_keras.layers import CrossModalAttention
from drifa_keras.models.backbones import drop


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


def embed(x, units, name, momentum, dtype):
    """The tokens of a map, before they are told where they are."""
    x = keras.layers.BatchNormalization(
        momentum=momentum, dtype=dtype, name=f"{name}_tokens_norm"
    )(x)
    x = keras.layers.LeakyReLU(0.01, dtype=dtype, name=f"{name}_tokens_relu")(x)
    return keras.layers.Conv2D(
        units,
        3,
        padding="same",
        data_format="channels_last",
        dtype=dtype,
        name=f"{name}_tokens_conv",
    )(x)


def transform(tokens, presence, number, heads, dropout, dtype):
    """A layer of the Transformer, on a dict of maps by modality."""
    name, units = f"transformer{number}", next(iter(tokens.values())).shape[-1]
    norm = normalization(f"{name}_norm1", dtype)
    seen = CrossModalAttention(
        heads, own=True, shared=True, dtype=dtype, name=f"{name}_attention"
    )([norm(x) for x in tokens.values()], presence=presence)
    project = dense(units, f"{name}_project", dtype)
    norm = normalization(f"{name}_norm2", dtype)
    widen = dense(8 * units, f"{name}_widen", dtype, "gelu")
    narrow = dense(units, f"{name}_narrow", dtype)
    grown = {}
    for (modality, x), y in zip(tokens.items(), seen, strict=True):
        prefix = f"{modality}_{name}"
        x = residual(x, project(y), dropout, f"{prefix}_attention", dtype)
        y = widen(norm(x))
        y = drop(y, dropout, f"{prefix}_wide", dtype)
        grown[modality] = residual(x, narrow(y), dropout, f"{prefix}_mlp", dtype)
    return grown
