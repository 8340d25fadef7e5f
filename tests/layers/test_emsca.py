"""EMSCA (Fig. 3B): every modality described, and crossed with the others."""

import numpy as np
import pytest

import oracle_mail
from drifa_keras.layers import EMSCA, freeze_randomness
from harness import (
    MASKS,
    as_numpy,
    assert_close,
    built,
    exact,
    random_map,
    random_maps,
    randomise,
    run_layer_test,
)
from harness_mail import expected_emsca, expected_msgdc

SHAPE = (2, 5, 7, 8)


def make(count, shape=SHAPE, **kwargs):
    layer = EMSCA(**{"groups": 4, **kwargs})
    layer.build([shape] * count)
    # Small weights, or the logistic function saturates.
    return randomise(layer, scale=0.15)


def expected(layer, xs, presence=None):
    return expected_emsca(layer, xs, presence)[:, None, None, :]


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_equations(count, masked, released):
    xs = random_maps(count, SHAPE)
    layer = make(count, released=released)
    mask = MASKS[count] if masked else None
    presence = None if mask is None else np.array(mask, "float32")
    outputs = as_numpy(layer(xs, presence=presence))
    assert_close(outputs, expected(layer, xs, mask))
    assert outputs.min() > 0.01 and outputs.max() < 0.99


def test_released_form_for_two():
    xs = random_maps(2, SHAPE)
    layer = make(2, released=True)
    w1, w2 = exact(layer.scales)
    a_s = oracle_mail.released_emsca(
        *xs, lambda x: expected_msgdc(layer.msgdc, x), w1, w2
    )
    assert_close(as_numpy(layer(xs))[:, 0, 0], a_s)


def test_order_of_modalities_matters_in_the_released_form_alone():
    xs = random_maps(2, SHAPE)
    for released in (False, True):
        layer = make(2, released=released)
        layer.scales.assign(np.ones((2, 8)))
        difference = as_numpy(layer(xs)) - as_numpy(layer(xs[::-1]))
        assert (np.abs(difference).max() < 1e-6) is not released


@pytest.mark.parametrize("shape", [(3, 1, 1, 4), (1, 6, 2, 4)])
def test_equations_on_odd_sizes(shape):
    xs = random_maps(2, shape)
    layer = make(2, shape)
    assert_close(layer(xs), expected(layer, xs))


def test_one_draw_of_random_filters_serves_the_whole_call():
    xs = random_maps(2, SHAPE)
    layer = make(2, groups=2, random_ratio=0.25)
    with freeze_randomness(layer):
        outputs = as_numpy(layer(xs))
        assert_close(outputs, expected(layer, xs))
    assert np.abs(as_numpy(layer(xs)) - outputs).max() > 1e-3
    # Equal modalities with equal weights stay equal, though the filters are random.
    layer.scales.assign(np.array([[1.0] * 8, [-1.0] * 8]))
    assert_close(layer([xs[0], xs[0]]), np.full((2, 1, 1, 8), 0.5), 1e-6)


@pytest.mark.parametrize("released", [False, True])
def test_absent_modality_takes_no_part(released):
    xs = random_maps(3, SHAPE)
    layer = make(3, released=released)
    presence = np.array([[1, 0, 1]] * 2, "float32")
    outputs = layer(xs, presence=presence)
    changed = [xs[0], random_map(SHAPE, seed=99), xs[2]]
    assert_close(layer(changed, presence=presence), outputs, 0)


@pytest.mark.parametrize(
    ("count", "kwargs", "stochastic"),
    [
        (2, {"groups": 4}, False),
        (3, {"groups": 2, "released": True, "kernel_initializer": "he_normal"}, False),
        (2, {"groups": 2, "random_ratio": 0.25}, True),
    ],
)
def test_layer_behaves(count, kwargs, stochastic, tmp_path):
    share = 0.75 if stochastic else 1
    run_layer_test(
        EMSCA,
        kwargs,
        [SHAPE] * count,
        tmp_path,
        presence=count == 3,
        expected_output_shape=(2, 1, 1, 8),
        expected_params=int(share * (8 // kwargs["groups"] * 8 + 34 * 8))
        + 24 * 8
        + count * 8,
        stochastic=stochastic,
    )


def test_multiply_adds():
    layer = make(3)
    of_a_cell = 8 * 2 + 8 * 34 + 8 * 24
    assert layer.multiply_adds([(None, 5, 7, 8)] * 3) == 3 * (35 + 1) * of_a_cell


def test_groups_that_do_not_divide():
    with pytest.raises(ValueError, match="16 groups.* 8"):
        EMSCA().build([(None, 4, 4, 8)] * 2)


def test_all_filters_random():
    with pytest.raises(ValueError, match="random_ratio.*below 1"):
        EMSCA(random_ratio=1).build([(None, 4, 4, 16)] * 2)


def test_no_list():
    with pytest.raises(ValueError, match="list of feature maps"):
        EMSCA()(np.zeros((2, 4, 4, 16), "float32"))


def test_unequal_maps():
    with pytest.raises(ValueError, match="equal height, width and channels"):
        EMSCA().build([(None, 4, 4, 16), (None, 4, 5, 16)])


def test_wrong_presence():
    with pytest.raises(ValueError, match="presence"):
        EMSCA(groups=4)(random_maps(2), presence=np.ones((2, 3), "float32"))


def test_weights_start_at_one():
    layer = built(EMSCA(groups=4), [SHAPE] * 2)
    fresh = EMSCA(groups=4)
    fresh.build([SHAPE] * 2)
    assert layer.scales.shape == (2, 8)
    assert np.array_equal(as_numpy(fresh.scales), np.ones((2, 8)))
