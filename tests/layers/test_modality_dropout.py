"""ModalityDropout: whole modalities blanked in training, never all of them."""

import keras
import numpy as np
import pytest

from drifa_keras.layers import ModalityDropout
from harness import as_numpy, random_map, run_layer_test

SAMPLES = 2000


def ones(count):
    return [np.ones((SAMPLES, 1, 2, 1), "float32") for _ in range(count)]


def kept(outputs):
    """Which images of (samples, modalities) are there still."""
    return np.stack([as_numpy(x).any(axis=(1, 2, 3)) for x in outputs], axis=1)


@pytest.mark.parametrize("shapes", [[(2, 5, 7, 2), (2, 4, 4, 1)], [(2, 4, 4, 3)]])
def test_layer_behaves(shapes, tmp_path):
    run_layer_test(
        ModalityDropout,
        {"rate": 0.3, "seed": 4},
        shapes,
        tmp_path,
        expected_output_shape=shapes,
        expected_params=0,
    )


@pytest.mark.parametrize("training", [False, None])
def test_inference_is_the_identity(training):
    x = [random_map((6, 4, 5, 3)), random_map((6, 3, 3, 1), seed=1)]
    for before, after in zip(
        x, ModalityDropout(0.9)(x, training=training), strict=True
    ):
        assert np.array_equal(as_numpy(after), before)


def test_images_are_blanked_whole_and_else_untouched():
    x = [random_map((40, 4, 5, 3)), random_map((40, 3, 3, 1), seed=1)]
    outputs = ModalityDropout(0.4, seed=1)(x, training=True)
    there = kept(outputs)
    assert 0 < there.mean() < 1
    for index, (before, after) in enumerate(zip(x, outputs, strict=True)):
        wanted = before * there[:, index, None, None, None]
        assert np.array_equal(as_numpy(after), wanted)


def test_rate_is_the_share_of_blanked_images():
    there = kept(ModalityDropout(0.1, seed=1)(ones(3), training=True))
    assert np.abs((1 - there.mean(axis=0)) - 0.1).max() < 0.03


def test_modalities_and_samples_are_drawn_on_their_own():
    there = kept(ModalityDropout(0.3, seed=1)(ones(4), training=True))
    both = (~there[:, 0] & ~there[:, 1]).mean()
    assert 0.05 < both < 0.13
    assert len({tuple(row) for row in there}) == 15


def test_never_all_of_a_sample():
    for count in (1, 2, 3):
        there = kept(ModalityDropout(0.95, seed=1)(ones(count), training=True))
        assert there.any(axis=1).all()


def test_what_is_absent_already_does_not_save_the_rest():
    x = ones(3)
    x[0][:] = 0
    x[1][::2] = 0
    there = kept(ModalityDropout(0.9, seed=1)(x, training=True))
    assert not there[:, 0].any()
    assert there.any(axis=1).all()
    assert there[::2, 2].all() and not there[::2, 1].any()


def test_sample_without_images_stays_blank():
    x = [np.zeros((5, 2, 2, 1), "float32")] * 2
    outputs = ModalityDropout(0.5, seed=1)(x, training=True)
    assert not kept(outputs).any()


def test_rate_zero_is_the_identity():
    assert kept(ModalityDropout(0.0)(ones(2), training=True)).all()


def test_seed_repeats_the_draws():
    def draws():
        layer = ModalityDropout(0.5, seed=9)
        return [kept(layer(ones(2), training=True)) for _ in range(2)]

    first, second = draws(), draws()
    assert np.array_equal(first, second)
    assert not np.array_equal(first[0], first[1])


def test_is_no_dropout_for_monte_carlo_passes():
    assert not isinstance(ModalityDropout(0.5), keras.layers.Dropout)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_bad_rate(rate):
    with pytest.raises(ValueError, match="rate"):
        ModalityDropout(rate)


@pytest.mark.parametrize("training", [False, True])
def test_no_list(training):
    with pytest.raises(ValueError, match="list"):
        ModalityDropout(0.5)(np.zeros((2, 4, 4, 3), "float32"), training=training)
