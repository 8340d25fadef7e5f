"""ImagePresence: an absent image is a blank one."""

import numpy as np
import pytest

from drifa_keras.layers import ImagePresence
from harness import as_numpy, random_map, run_layer_test


def images(present, shape=(4, 5, 3)):
    """Images of which sample b of modality i is blank unless present[b][i]."""
    present = np.array(present, "float32")
    full = [random_map((len(present), *shape), seed=i) for i in range(len(present[0]))]
    return [x * r[:, None, None, None] for x, r in zip(full, present.T, strict=True)]


@pytest.mark.parametrize(
    "present",
    [
        [[1], [1]],
        [[1, 1], [1, 0], [0, 1]],
        [[1, 0, 1], [0, 0, 1], [1, 1, 1]],
    ],
    ids=str,
)
def test_blank_images_are_absent(present):
    assert as_numpy(ImagePresence()(images(present))).tolist() == present


@pytest.mark.parametrize("count", [1, 3])
def test_all_blank_counts_as_all_present(count):
    present = np.ones((3, count))
    present[1] = 0
    assert as_numpy(ImagePresence()(images(present))).tolist() == [[1] * count] * 3


def test_one_pixel_is_enough():
    blank, other = np.zeros((4, 6, 6, 3), "float32"), np.ones((4, 6, 6, 1), "float32")
    blank[0, 5, 5, 2] = 1
    blank[1, 0, 0, 0] = -1
    blank[2, 2, 3, 1], blank[2, 3, 2, 1] = 1, -1
    assert as_numpy(ImagePresence()([blank, other]))[:, 0].tolist() == [1, 1, 1, 0]


def test_sizes_and_channels_may_differ():
    x = [np.ones((2, 8, 8, 3), "float32"), np.zeros((2, 5, 7, 1), "float32")]
    assert as_numpy(ImagePresence()(x)).tolist() == [[1, 0], [1, 0]]


def test_integer_images():
    x = [np.full((2, 4, 4, 3), 255, "uint8"), np.zeros((2, 4, 4, 3), "uint8")]
    assert as_numpy(ImagePresence()(x)).tolist() == [[1, 0], [1, 0]]


@pytest.mark.parametrize("shapes", [[(2, 5, 7, 2), (2, 4, 4, 1)], [(2, 4, 4, 3)]])
def test_layer_behaves(shapes, tmp_path):
    run_layer_test(
        ImagePresence,
        {},
        shapes,
        tmp_path,
        expected_output_shape=(2, len(shapes)),
        expected_params=0,
        differentiable=False,
    )


def test_no_list():
    with pytest.raises(ValueError, match="list"):
        ImagePresence()(np.zeros((2, 4, 4, 3), "float32"))


def test_wrong_rank():
    with pytest.raises(ValueError, match="batch, height, width, channels"):
        ImagePresence()([np.zeros((2, 4, 3), "float32")] * 2)
