"""Dropout by keys: which values it leaves, and that its masks are random."""

import keras
import numpy as np
import pytest
from keras import layers

from drifa_keras.layers import MCDropout
from drifa_keras.uncertainty._always_on import AlwaysOn, random_bits
from harness import as_numpy

KEYS = np.random.default_rng(0).integers(-(2**31), 2**31, (400, 2)).astype("int32")


def drop(dropout, x, keys=KEYS, column=0):
    return as_numpy(AlwaysOn(dropout, column)(x, keys[: len(x)]))


def scramble(x):
    """The hash on Python integers, in the unsigned arithmetic of its definition."""
    x = x * 0x7FEB352D % 2**32
    sign = x >> 31
    x ^= (x >> 15) | (sign * (2**15 - 1) << 17)
    return x * 0x846CA68B % 2**32


def test_bits_are_those_of_the_definition():
    keys = np.array([0, 1, -1, 123456789, -(2**31)], "int32")
    bits = as_numpy(random_bits(keys, (5, 3, 2)))
    assert bits.dtype == np.int32
    for row, key in enumerate(keys.tolist()):
        expected = [
            scramble((key % 2**32) ^ scramble(scramble(position)))
            for position in range(6)
        ]
        assert (bits[row].ravel().astype("int64") % 2**32).tolist() == expected


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.75])
def test_masks_of_rows_and_of_elements_are_independent(rate):
    elements = 300
    kept = drop(layers.Dropout(rate), np.ones((400, elements), "float32")) != 0
    z = (kept - (1 - rate)) / np.sqrt(rate * (1 - rate))
    # Each of these would be standard normal for independent masks.
    assert abs(z.mean() * np.sqrt(z.size)) < 4
    for one_by_one in (z, z.T):
        count = one_by_one.shape[1]
        means = one_by_one.mean(axis=1) * np.sqrt(count)
        assert 0.8 < means.var() < 1.25
        correlation = one_by_one @ one_by_one.T / np.sqrt(count)
        correlation = correlation[np.triu_indices(len(correlation), 1)]
        assert 0.97 < correlation.std() < 1.03
        assert np.abs(correlation).max() < 6


def test_layers_and_columns_have_masks_of_their_own():
    x = np.ones((400, 300), "float32")
    one, other = (drop(layers.Dropout(0.5), x, column=column) for column in (0, 1))
    assert abs(np.mean(one == other) - 0.5) < 0.01


def test_row_has_one_mask_wherever_it_stands():
    x = np.ones((400, 8, 8, 3), "float32")
    together = drop(layers.Dropout(0.5), x)
    alone = drop(layers.Dropout(0.5), x[:2], keys=KEYS[7:9])
    np.testing.assert_array_equal(together[7:9], alone)


@pytest.mark.parametrize("dropout", [layers.Dropout(0.2), MCDropout(0.2)])
def test_values_are_kept_and_scaled_or_dropped(dropout):
    x = np.random.default_rng(1).uniform(1, 2, (50, 40)).astype("float32")
    y = drop(dropout, x)
    kept = y != 0
    np.testing.assert_allclose(y[kept], x[kept] / 0.8, rtol=1e-6)
    assert abs(kept.mean() - 0.8) < 0.03


@pytest.mark.parametrize(
    ("dropout", "shape", "same"),
    [
        (layers.SpatialDropout1D(0.5), (30, 5, 8), (1,)),
        (layers.SpatialDropout2D(0.5, "channels_last"), (30, 4, 5, 8), (1, 2)),
        (layers.SpatialDropout2D(0.5, "channels_first"), (30, 8, 4, 5), (2, 3)),
        (layers.SpatialDropout3D(0.5, "channels_last"), (30, 2, 4, 5, 8), (1, 2, 3)),
        (layers.Dropout(0.5, noise_shape=(None, 1, None)), (30, 5, 8), (1,)),
    ],
)
def test_axes_that_share_a_mask(dropout, shape, same):
    kept = drop(dropout, np.ones(shape, "float32")) != 0
    first = kept
    for axis in same:
        first = np.take(first, [0], axis=axis)
    np.testing.assert_array_equal(kept, np.broadcast_to(first, shape))
    assert 0.35 < first.mean() < 0.65
    # Each row, and each of what is left of it, has a mask of its own.
    assert len(np.unique(first.reshape(len(first), -1), axis=0)) > 20


def test_gaussian_dropout_multiplies_by_normal_noise():
    noise = drop(layers.GaussianDropout(0.3), np.full((400, 200), 2.0, "float32")) / 2
    deviation = np.sqrt(0.3 / 0.7)
    assert noise.mean() == pytest.approx(1, abs=0.01)
    assert noise.std() == pytest.approx(deviation, rel=0.01)
    quantiles = np.quantile((noise - 1) / deviation, [0.023, 0.159, 0.841, 0.977])
    np.testing.assert_allclose(quantiles, [-2, -1, 1, 2], atol=0.03)
    assert np.isfinite(noise).all()


def test_alpha_dropout_keeps_mean_and_variance():
    x = np.random.default_rng(2).standard_normal((400, 200)).astype("float32")
    y = drop(layers.AlphaDropout(0.3), x)
    assert y.mean() == pytest.approx(0, abs=0.02)
    assert y.std() == pytest.approx(1, abs=0.02)
    # As Keras does it, by what either makes of a constant.
    keras.utils.set_random_seed(0)
    by_keras = layers.AlphaDropout(0.3)(x[:50] * 0 + 0.7, training=True)
    np.testing.assert_allclose(
        np.unique(drop(layers.AlphaDropout(0.3), x[:50] * 0 + 0.7)),
        np.unique(as_numpy(by_keras)),
        rtol=1e-5,
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype):
    layer = AlwaysOn(layers.Dropout(0.5, dtype=dtype), 0)
    y = layer(keras.ops.ones((3, 4), dtype), KEYS[:3])
    assert keras.backend.standardize_dtype(y.dtype) == dtype
