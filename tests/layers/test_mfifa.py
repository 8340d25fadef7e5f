"""MFIFA (Fig. 3A): attention from a discrete cosine transform of each modality."""

import numpy as np
import pytest
from scipy import fft

import oracle_mail
from drifa_keras.layers import MFIFA
from harness import (
    MASKS,
    as_numpy,
    assert_close,
    built,
    random_map,
    random_maps,
    run_layer_test,
)
from harness_mail import expected_mfifa


@pytest.mark.parametrize("dct", ["channel", "spatial"])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_equations(count, dct, masked):
    xs = random_maps(count)
    layer = built(MFIFA(dct), [x.shape for x in xs])
    mask = MASKS[count] if masked else None
    presence = None if mask is None else np.array(mask, "float32")
    assert_close(layer(xs, presence=presence), expected_mfifa(layer, xs, mask))


@pytest.mark.parametrize("dct", ["channel", "spatial"])
@pytest.mark.parametrize("shape", [(3, 1, 1, 3), (1, 6, 2, 1), (2, 4, 4, 64)])
def test_equations_on_odd_sizes(shape, dct):
    xs = random_maps(2, shape)
    layer = built(MFIFA(dct), [shape, shape])
    assert_close(layer(xs), expected_mfifa(layer, xs))


def test_transform_of_the_oracle_is_that_of_scipy():
    x = random_map((2, 3, 4, 5))
    assert_close(oracle_mail.dct(x, 3), fft.dct(x, type=2, norm="ortho"), 1e-6)
    both = oracle_mail.dct(oracle_mail.dct(x, 1), 2)
    assert_close(both, fft.dctn(x, type=2, norm="ortho", axes=(1, 2)), 1e-6)


def test_low_frequencies_cancel_at_first():
    xs = random_maps(2)
    layer = MFIFA()
    layer.build([x.shape for x in xs])
    w, b = as_numpy(layer.kernel)[0], as_numpy(layer.bias)[0]
    # With all scales 1 the logits are 2 High, wherever Low is.
    twice_high = oracle_mail.mfifa(xs, w, b, 2.0, 0.0, 0.0)
    assert_close(layer(xs), twice_high)


@pytest.mark.parametrize("dct", ["channel", "spatial"])
def test_absent_modality_takes_no_part(dct):
    xs = random_maps(3)
    layer = built(MFIFA(dct), [x.shape for x in xs])
    presence = np.array([[1, 0, 1]] * 2, "float32")
    outputs = layer(xs, presence=presence)
    changed = [xs[0], random_map(xs[1].shape, seed=99), xs[2]]
    assert_close(layer(changed, presence=presence), outputs, 0)


@pytest.mark.parametrize(
    ("kwargs", "count"), [({}, 2), ({"kernel_initializer": "he_normal"}, 3)]
)
def test_layer_behaves(kwargs, count, tmp_path):
    run_layer_test(
        MFIFA,
        kwargs,
        [(2, 5, 7, 4)] * count,
        tmp_path,
        presence=count == 3,
        expected_output_shape=(2, 5, 7, 4),
        expected_params=4 * 4 + 4 + 3,
    )


def test_spatial_layer_behaves(tmp_path):
    run_layer_test(
        MFIFA,
        {"dct": "spatial"},
        [(2, 5, 7, 4)] * 2,
        tmp_path,
        expected_output_shape=(2, 5, 7, 4),
        expected_params=4 * 4 + 4 + 3,
        any_size=False,
    )


def test_multiply_adds():
    shapes = [(None, 5, 7, 4)] * 3
    assert MFIFA().multiply_adds(shapes) == 3 * (5 * 7 * 4 * 4 + 3 * 16)
    assert MFIFA("spatial").multiply_adds(shapes) == 3 * (5 * 7 * 4 * 12 + 3 * 16)


@pytest.mark.parametrize("dct", ["frequency", None, True])
def test_bad_transform(dct):
    with pytest.raises(ValueError, match="dct"):
        MFIFA(dct)


def test_spatial_transform_of_unknown_size():
    with pytest.raises(ValueError, match=r"spatial.*known height and width"):
        MFIFA("spatial").build([(None, 5, None, 4)] * 2)


def test_no_list():
    with pytest.raises(ValueError, match="list of feature maps"):
        MFIFA()(np.zeros((2, 4, 4, 3), "float32"))


def test_unequal_maps():
    with pytest.raises(ValueError, match="equal height, width and channels"):
        MFIFA().build([(None, 4, 4, 3), (None, 4, 5, 3)])


def test_wrong_presence():
    with pytest.raises(ValueError, match="presence"):
        MFIFA()(random_maps(2), presence=np.ones((2, 3), "float32"))
