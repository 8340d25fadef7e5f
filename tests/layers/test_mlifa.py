"""MLIFA (Eq. 7): the paper's windows and the released global form."""

import numpy as np
import pytest

import oracle
from drifa_keras.layers import MGIFA, MLIFA
from harness import (
    MASKS,
    as_numpy,
    assert_close,
    built,
    expected_mlifa,
    random_map,
    random_maps,
    run_layer_test,
)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("window", [3, 5, None])
def test_equations(count, masked, window):
    xs = random_maps(count)
    layer = built(MLIFA(local_window=window), [x.shape for x in xs])
    mask = MASKS[count] if masked else None
    presence = None if mask is None else np.array(mask, "float32")
    expected = expected_mlifa(layer, xs, window, mask)
    assert_close(layer(xs, presence=presence), expected)


@pytest.mark.parametrize("shape", [(3, 1, 1, 3), (1, 6, 2, 1)])
@pytest.mark.parametrize("window", [1, 3, 5, None])
def test_equations_on_odd_sizes(shape, window):
    xs = random_maps(2, shape)
    layer = built(MLIFA(local_window=window), [shape, shape])
    assert_close(layer(xs), expected_mlifa(layer, xs, window))


def test_equations_with_one_matrix_for_all_poolings():
    xs = random_maps(2)
    layer = built(MLIFA(shared_fc=True), [x.shape for x in xs])
    assert layer.kernel.shape[0] == 1
    assert_close(layer(xs), expected_mlifa(layer, xs))


def test_released_form_for_two():
    x1, x2 = random_maps(2)
    layer = built(MLIFA(local_window=None), [x1.shape, x2.shape])
    k, b = as_numpy(layer.kernel), as_numpy(layer.bias)
    expected = oracle.released_mlifa(x1, x2, k[0], b[0], k[1], b[1])
    assert_close(layer([x1, x2]), expected[:, None, None, :])


def test_shared_fc_has_no_effect_in_the_released_form():
    xs = random_maps(2)
    shapes = [x.shape for x in xs]
    plain = built(MLIFA(local_window=None), shapes)
    shared = built(MLIFA(local_window=None, shared_fc=True), shapes)
    assert plain.kernel.shape == shared.kernel.shape == (2, 4, 4)
    assert_close(shared(xs), plain(xs), 0)


@pytest.mark.parametrize("window", [5, 7])
def test_window_of_the_whole_map_is_mgifa(window):
    xs = random_maps(2, (2, 3, 3, 4))
    shapes = [x.shape for x in xs]
    local, whole = built(MLIFA(local_window=window), shapes), built(MGIFA(), shapes)
    everywhere = np.broadcast_to(as_numpy(whole(xs))[:, None, None, :], xs[0].shape)
    assert_close(local(xs), everywhere)


def test_window_reaches_so_far_and_no_further():
    x = random_map((1, 9, 9, 2))
    layer = built(MLIFA(local_window=5), [x.shape])
    poked = x.copy()
    poked[0, 4, 4] = [30.0, -30.0]
    difference = np.abs(as_numpy(layer([poked])) - as_numpy(layer([x]))).max(axis=-1)
    inside = np.zeros((1, 9, 9), bool)
    inside[:, 2:7, 2:7] = True
    assert (difference[inside] > 1e-4).all()
    assert (difference[~inside] < 1e-6).all()


@pytest.mark.parametrize(
    ("count", "kwargs", "presence", "shape", "params"),
    [
        (2, {}, True, (2, 5, 7, 4), 3 * 16 + 3 * 4),
        (3, {"local_window": None}, True, (2, 1, 1, 4), 3 * 16 + 3 * 4),
        (
            1,
            {"local_window": 5, "shared_fc": True, "kernel_initializer": "he_normal"},
            False,
            (2, 5, 7, 4),
            16 + 4,
        ),
    ],
)
def test_layer_behaves(count, kwargs, presence, shape, params, tmp_path):
    run_layer_test(
        MLIFA,
        kwargs,
        [(2, 5, 7, 4)] * count,
        tmp_path,
        presence=presence,
        expected_output_shape=shape,
        expected_params=params,
    )


@pytest.mark.parametrize(
    ("kwargs", "slices"),
    [({}, 3), ({"shared_fc": True}, 1), ({"local_window": None}, 2)],
    ids=str,
)
def test_initial_values(kwargs, slices):
    channels = 48
    layer = MLIFA(**kwargs)
    layer.build([(None, 4, 4, channels)] * 2)
    kernel = as_numpy(layer.kernel)
    assert kernel.shape == (slices, channels, channels)
    limit = np.sqrt(6 / (2 * channels))
    for matrix in kernel:
        assert 0.97 * limit < np.abs(matrix).max() <= limit
        assert matrix.std() == pytest.approx(limit / np.sqrt(3), rel=0.05)
    assert len({float(matrix[0, 0]) for matrix in kernel}) == slices
    assert layer.bias.shape == (slices, channels)
    assert not as_numpy(layer.bias).any()


@pytest.mark.parametrize("window", [3, None])
def test_all_present_is_the_equation_without_mask(window):
    xs = random_maps(3)
    layer = built(MLIFA(local_window=window), [x.shape for x in xs])
    assert_close(layer(xs, presence=np.ones((2, 3), "float32")), layer(xs), 1e-6)


@pytest.mark.parametrize("window", [3, None])
def test_absent_stream_is_ignored(window):
    xs, others = random_maps(3), random_maps(3, seed=50)
    layer = built(MLIFA(local_window=window), [x.shape for x in xs])
    presence = np.array([[1, 0, 1], [1, 0, 1]], "float32")
    changed = [xs[0], others[1], xs[2]]
    assert_close(layer(changed, presence=presence), layer(xs, presence=presence), 0)


def test_order_of_modalities_does_not_matter_with_windows():
    xs = random_maps(3)
    layer = built(MLIFA(), [x.shape for x in xs])
    presence = np.array(MASKS[3], "float32")
    order = [2, 0, 1]
    shuffled = [xs[i] for i in order]
    assert_close(layer(shuffled), layer(xs))
    assert_close(
        layer(shuffled, presence=presence[:, order]), layer(xs, presence=presence)
    )


def test_order_of_modalities_goes_with_the_matrices_in_the_released_form():
    xs = random_maps(3)
    layer = built(MLIFA(local_window=None), [x.shape for x in xs])
    before = as_numpy(layer(xs))
    order = [2, 0, 1]
    shuffled = [xs[i] for i in order]
    assert np.abs(as_numpy(layer(shuffled)) - before).max() > 1e-3
    layer.set_weights([weight[order] for weight in layer.get_weights()])
    assert_close(layer(shuffled), before)


def test_mean_does_not_overflow_in_half_precision():
    x = np.full((1, 19, 19, 2), 200.0, "float32")
    layer = MLIFA(local_window=19, dtype="mixed_float16")
    layer.build([x.shape])
    layer.set_weights([np.full((3, 2, 2), 1e-3, "float32"), np.zeros((3, 2))])
    expected = 3 * oracle.sigmoid(np.full(x.shape, 2 * 200 * 1e-3))
    assert_close(layer([x]), expected, 2e-3)


@pytest.mark.parametrize("window", [0, 2, 4, -1, -3, 2.5, "3"])
def test_bad_window(window):
    with pytest.raises(ValueError, match="local_window"):
        MLIFA(local_window=window)


def test_no_list():
    with pytest.raises(ValueError, match="list of feature maps"):
        MLIFA()(np.zeros((2, 4, 4, 3), "float32"))


def test_empty_list():
    with pytest.raises(ValueError, match="list of feature maps"):
        MLIFA().build([])


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 3), (2, 4, 4, 4, 3)])
def test_wrong_rank(shape):
    with pytest.raises(ValueError, match="batch, height, width, channels"):
        MLIFA()([np.zeros(shape, "float32")] * 2)


def test_unknown_channels():
    with pytest.raises(ValueError, match="channels"):
        MLIFA().build([(None, 4, 4, None)] * 2)


def test_unequal_maps():
    with pytest.raises(ValueError, match=r"4, 4, 3.*8, 4, 3"):
        MLIFA()([np.zeros((2, 4, 4, 3), "float32"), np.zeros((2, 8, 4, 3), "float32")])


@pytest.mark.parametrize("window", [3, None])
@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 2, 1)])
def test_wrong_presence(shape, window):
    with pytest.raises(ValueError, match="presence"):
        MLIFA(local_window=window)(random_maps(2), presence=np.ones(shape, "float32"))
