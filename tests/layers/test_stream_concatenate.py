"""StreamConcatenate: the fused map of all streams."""

import numpy as np
import pytest

from drifa_keras.layers import StreamConcatenate
from harness import (
    MASKS,
    as_numpy,
    assert_close,
    random_maps,
    run_layer_test,
)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_channels_are_put_side_by_side(count):
    xs = random_maps(count)
    assert_close(StreamConcatenate()(xs), np.concatenate(xs, axis=-1), 0)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_absent_streams_are_zeros(count):
    xs = random_maps(count)
    presence = np.array(MASKS[count], "float32")
    expected = [x * r[:, None, None, None] for x, r in zip(xs, presence.T, strict=True)]
    outputs = StreamConcatenate()(xs, presence=presence)
    assert_close(outputs, np.concatenate(expected, axis=-1), 0)


def test_all_present_is_as_without_mask():
    xs = random_maps(3)
    outputs = StreamConcatenate()(xs, presence=np.ones((2, 3), "float32"))
    assert np.array_equal(as_numpy(outputs), as_numpy(StreamConcatenate()(xs)))


@pytest.mark.parametrize(("count", "presence"), [(1, False), (3, True)])
def test_layer_behaves(count, presence, tmp_path):
    run_layer_test(
        StreamConcatenate,
        {},
        [(2, 5, 7, 4)] * count,
        tmp_path,
        presence=presence,
        expected_output_shape=(2, 5, 7, 4 * count),
        expected_params=0,
    )


def test_no_list():
    with pytest.raises(ValueError, match="list of feature maps"):
        StreamConcatenate()(np.zeros((2, 4, 4, 3), "float32"))


def test_unequal_maps():
    with pytest.raises(ValueError, match=r"4, 4, 3.*8, 4, 3"):
        StreamConcatenate()(
            [np.zeros((2, 4, 4, 3), "float32"), np.zeros((2, 8, 4, 3), "float32")]
        )


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 2, 1)])
def test_wrong_presence(shape):
    with pytest.raises(ValueError, match="presence"):
        StreamConcatenate()(random_maps(2), presence=np.ones(shape, "float32"))
