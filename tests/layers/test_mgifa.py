"""MGIFA (Eq. 6) on any number of modalities, with presence."""

import numpy as np
import pytest

import oracle
from drifa_keras.layers import MGIFA
from harness import (
    MASKS,
    as_numpy,
    assert_close,
    built,
    pooling_symbols,
    random_maps,
    run_layer_test,
)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shared_fc", [False, True])
def test_equations(count, masked, shared_fc):
    xs = random_maps(count)
    layer = built(MGIFA(shared_fc=shared_fc), [x.shape for x in xs])
    mask = MASKS[count] if masked else None
    presence = None if mask is None else np.array(mask, "float32")
    expected = oracle.mgifa(xs, *pooling_symbols(layer), mask)
    assert_close(layer(xs, presence=presence), expected)


@pytest.mark.parametrize("shape", [(3, 1, 1, 3), (1, 6, 2, 1)])
def test_equations_on_odd_sizes(shape):
    xs = random_maps(2, shape)
    layer = built(MGIFA(), [shape, shape])
    assert_close(layer(xs), oracle.mgifa(xs, *pooling_symbols(layer)))


def test_released_form_for_two():
    x1, x2 = random_maps(2)
    layer = built(MGIFA(shared_fc=True), [x1.shape, x2.shape])
    kernel, bias = as_numpy(layer.kernel)[0], as_numpy(layer.bias)[0]
    assert_close(layer([x1, x2]), oracle.released_mgifa(x1, x2, kernel, bias))


@pytest.mark.parametrize(
    ("count", "kwargs", "presence", "params"),
    [
        (2, {}, True, 3 * 16 + 3 * 4),
        (3, {"shared_fc": True, "kernel_initializer": "he_normal"}, False, 16 + 4),
        (1, {}, False, 3 * 16 + 3 * 4),
    ],
)
def test_layer_behaves(count, kwargs, presence, params, tmp_path):
    run_layer_test(
        MGIFA,
        kwargs,
        [(2, 5, 7, 4)] * count,
        tmp_path,
        presence=presence,
        expected_output_shape=(2, 4),
        expected_params=params,
    )


@pytest.mark.parametrize("shared_fc", [False, True])
def test_initial_values(shared_fc):
    channels, slices = 48, 1 if shared_fc else 3
    layer = MGIFA(shared_fc=shared_fc)
    layer.build([(None, None, None, channels)] * 2)
    kernel = as_numpy(layer.kernel)
    assert kernel.shape == (slices, channels, channels)
    limit = np.sqrt(6 / (2 * channels))
    for matrix in kernel:
        assert 0.97 * limit < np.abs(matrix).max() <= limit
        assert matrix.std() == pytest.approx(limit / np.sqrt(3), rel=0.05)
    assert len({float(matrix[0, 0]) for matrix in kernel}) == slices
    assert layer.bias.shape == (slices, channels)
    assert not as_numpy(layer.bias).any()


def test_all_present_is_the_equation_without_mask():
    xs = random_maps(3)
    layer = built(MGIFA(), [x.shape for x in xs])
    assert_close(layer(xs, presence=np.ones((2, 3), "float32")), layer(xs), 1e-6)


def test_presence_may_be_boolean():
    xs = random_maps(3)
    layer = built(MGIFA(), [x.shape for x in xs])
    mask = np.array(MASKS[3])
    assert_close(
        layer(xs, presence=mask.astype(bool)),
        layer(xs, presence=mask.astype("float32")),
        0,
    )


def test_absent_stream_is_ignored():
    xs, others = random_maps(3), random_maps(3, seed=50)
    layer = built(MGIFA(), [x.shape for x in xs])
    presence = np.array([[1, 0, 1], [1, 0, 1]], "float32")
    changed = [xs[0], others[1], xs[2]]
    assert_close(layer(changed, presence=presence), layer(xs, presence=presence), 0)


def test_absent_stream_is_made_up_for_by_its_equals():
    """Three equal streams and two of them give the same descriptor."""
    (x,) = random_maps(1)
    layer = built(MGIFA(), [x.shape] * 3)
    presence = np.array([[1, 0, 1], [0, 1, 0]], "float32")
    assert_close(layer([x, x, x], presence=presence), layer([x, x, x]))


def test_order_of_modalities_does_not_matter():
    xs = random_maps(3)
    layer = built(MGIFA(), [x.shape for x in xs])
    presence = np.array(MASKS[3], "float32")
    order = [2, 0, 1]
    shuffled = [xs[i] for i in order]
    assert_close(layer(shuffled), layer(xs))
    assert_close(
        layer(shuffled, presence=presence[:, order]), layer(xs, presence=presence)
    )


def test_mean_does_not_overflow_in_half_precision():
    x = np.full((1, 32, 32, 2), 200.0, "float32")
    layer = MGIFA(dtype="mixed_float16", kernel_initializer="ones")
    layer.build([x.shape])
    layer.set_weights([np.full((3, 2, 2), 1e-3, "float32"), np.zeros((3, 2))])
    expected = 3 * oracle.sigmoid(np.full((1, 2), 2 * 200 * 1e-3))
    assert_close(layer([x]), expected, 2e-3)


def test_no_list():
    with pytest.raises(ValueError, match="list of feature maps"):
        MGIFA()(np.zeros((2, 4, 4, 3), "float32"))


def test_empty_list():
    with pytest.raises(ValueError, match="list of feature maps"):
        MGIFA().build([])


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 3), (2, 4, 4, 4, 3)])
def test_wrong_rank(shape):
    with pytest.raises(ValueError, match="batch, height, width, channels"):
        MGIFA()([np.zeros(shape, "float32")] * 2)


def test_unknown_channels():
    with pytest.raises(ValueError, match="channels"):
        MGIFA().build([(None, 4, 4, None)] * 2)


def test_unequal_channels():
    with pytest.raises(ValueError, match=r"4, 4, 3.*4, 4, 5"):
        MGIFA()([np.zeros((2, 4, 4, 3), "float32"), np.zeros((2, 4, 4, 5), "float32")])


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 1), (2, 2, 1)])
def test_wrong_presence(shape):
    with pytest.raises(ValueError, match="presence"):
        MGIFA()(random_maps(2), presence=np.ones(shape, "float32"))
