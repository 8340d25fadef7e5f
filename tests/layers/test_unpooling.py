"""MaxPoolingWithIndices2D and MaxUnpooling2D."""

import keras
import numpy as np
import pytest

from drifa_keras.layers import MaxPoolingWithIndices2D, MaxUnpooling2D
from harness import MASKS, as_numpy, assert_close, random_map, run_layer_test


def pooled(x):
    """Maxima and their places, window by window."""
    batch, height, width, channels = x.shape
    maxima = np.zeros((batch, height // 2, width // 2, channels))
    places = np.zeros(x.shape)
    for b, i, j, c in np.ndindex(maxima.shape):
        window = x[b, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c]
        k, l = divmod(int(window.argmax()), 2)
        maxima[b, i, j, c] = window[k, l]
        places[b, 2 * i + k, 2 * j + l, c] = 1
    return maxima, places


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (1, 2, 2, 1), (3, 8, 2, 2)])
def test_maxima_and_where_they_were(shape):
    x = random_map(shape)
    found = MaxPoolingWithIndices2D()(x)
    for values, expected in zip(found, pooled(x), strict=True):
        assert_close(values, expected, 1e-6)
    assert_close(found[0], keras.layers.MaxPooling2D(2)(x), 1e-6)


def test_the_first_of_equal_values_counts():
    x = np.zeros((1, 2, 4, 1), "float32")
    x[0, :, 2:, 0] = [[1, 3], [3, 3]]
    places = as_numpy(MaxPoolingWithIndices2D()(x)[1])[0, :, :, 0]
    np.testing.assert_array_equal(places, [[1, 0, 0, 1], [0, 0, 0, 0]])


def test_there_and_back():
    x = random_map((2, 4, 6, 3))
    maxima, places = MaxPoolingWithIndices2D()(x)
    expected = np.where(pooled(x)[1] > 0, x, 0)
    assert_close(MaxUnpooling2D()([maxima, places]), expected, 1e-6)


@pytest.mark.parametrize("modalities", [2, 3])
def test_mean_over_what_is_present(modalities):
    maps = [random_map((2, 4, 4, 2), seed=i) for i in range(modalities)]
    places = [pooled(x)[1].astype("float32") for x in maps]
    x = random_map((2, 2, 2, 2), seed=9)
    spread = x.repeat(2, axis=1).repeat(2, axis=2)
    presence = np.array(MASKS[modalities], "float32")
    for mask in (None, presence):
        weights = np.ones_like(presence) if mask is None else mask
        total = sum(
            w[:, None, None, None] * p for w, p in zip(weights.T, places, strict=True)
        )
        expected = spread * total / weights.sum(axis=1)[:, None, None, None]
        assert_close(MaxUnpooling2D()([x, *places], presence=mask), expected, 1e-6)


def test_pooling_behaves(tmp_path):
    run_layer_test(
        MaxPoolingWithIndices2D,
        {},
        (2, 4, 6, 3),
        tmp_path,
        expected_output_shape=[(2, 2, 3, 3), (2, 4, 6, 3)],
        expected_params=0,
        expected_output_dtypes=[None, "bool"],
    )


def test_unpooling_behaves(tmp_path):
    run_layer_test(
        MaxUnpooling2D,
        {},
        [(2, 2, 3, 4), (2, 4, 6, 4)],
        tmp_path,
        expected_output_shape=(2, 4, 6, 4),
        expected_params=0,
    )


@pytest.mark.parametrize("shape", [(2, 5, 4, 3), (2, 4, 7, 3)])
def test_odd_sizes(shape):
    with pytest.raises(ValueError, match="have to be even. Received.*can be halved"):
        MaxPoolingWithIndices2D()(np.zeros(shape, "float32"))


@pytest.mark.parametrize(
    "shapes",
    [[(1, 2, 2, 3)], [(1, 2, 2, 3), (1, 2, 2, 3)], [(1, 2, 2, 3), (1, 4, 4, 2)]],
)
def test_maps_that_do_not_belong_together(shapes):
    maps = [np.zeros(shape, "float32") for shape in shapes]
    with pytest.raises(ValueError, match="twice as high and wide"):
        MaxUnpooling2D()(maps)
