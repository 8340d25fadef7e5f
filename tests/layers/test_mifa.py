"""MIFA (Eq. 5, 8) with the switches of Tables 5 and 6, any number of modalities."""

import numpy as np
import pytest

import oracle
from drifa_keras.layers import MGIFA, MIFA, MLIFA
from harness import (
    MASKS,
    as_numpy,
    assert_close,
    built,
    expected_mifa,
    random_maps,
    run_layer_test,
)

SWITCHES = [
    {},
    {"mgifa": False},
    {"mlifa": False},
    {"omega_d": False},
    {"omega_l": False},
    {"omega_c": False},
    {"omega_d": False, "omega_l": False, "omega_c": False},
    {"mgifa": False, "omega_l": False},
    {"mlifa": False, "omega_d": False, "omega_c": False},
    {"shared_fc": True},
    {"local_window": 5},
    {"local_window": None},
    {"local_window": None, "shared_fc": True},
    {"local_window": None, "mgifa": False},
]


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_equations(switches, masked):
    xs = random_maps(2)
    layer = built(MIFA(**switches), [x.shape for x in xs])
    mask = MASKS[2] if masked else None
    presence = None if mask is None else np.array(mask, "float32")
    expected = expected_mifa(layer, xs, mask, **switches)
    assert_close(layer(xs, presence=presence), expected)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("switches", [{}, {"local_window": None}], ids=str)
def test_equations_for_other_numbers_of_modalities(count, masked, switches):
    xs = random_maps(count)
    layer = built(MIFA(**switches), [x.shape for x in xs])
    mask = MASKS[count] if masked else None
    presence = None if mask is None else np.array(mask, "float32")
    expected = expected_mifa(layer, xs, mask, **switches)
    outputs = layer(xs, presence=presence)
    assert isinstance(outputs, list)
    assert_close(outputs, expected)


@pytest.mark.parametrize("shape", [(3, 1, 1, 3), (1, 6, 2, 1)])
def test_equations_on_odd_sizes(shape):
    xs = random_maps(2, shape)
    layer = built(MIFA(), [shape, shape])
    assert_close(layer(xs), expected_mifa(layer, xs))


def test_released_form_for_two():
    x1, x2 = random_maps(2)
    layer = built(MIFA(local_window=None, shared_fc=True), [x1.shape, x2.shape])
    f, f_bias = as_numpy(layer.mgifa.kernel)[0], as_numpy(layer.mgifa.bias)[0]
    k, b = as_numpy(layer.mlifa.kernel), as_numpy(layer.mlifa.bias)
    omega = as_numpy(layer.omega)
    g = oracle.released_mgifa(x1, x2, f, f_bias)
    local = oracle.released_mlifa(x1, x2, k[0], b[0], k[1], b[1])
    expected = oracle.released_mifa(
        x1, x2, g, local, omega[0], omega[1:5], omega[5:9], omega[9:13]
    )
    assert_close(layer([x1, x2]), list(expected))


@pytest.mark.parametrize(
    ("count", "kwargs", "presence", "params"),
    [
        (2, {}, True, 6 * 16 + 6 * 4 + 1 + 4 + 2 * 4),
        (
            3,
            {"local_window": None, "shared_fc": True, "omega_c": False},
            False,
            4 * 16 + 4 * 4 + 1 + 4,
        ),
        (
            1,
            {"mgifa": False, "kernel_initializer": "he_normal"},
            False,
            3 * 16 + 3 * 4 + 4 + 4,
        ),
    ],
)
def test_layer_behaves(count, kwargs, presence, params, tmp_path):
    run_layer_test(
        MIFA,
        kwargs,
        [(2, 5, 7, 4)] * count,
        tmp_path,
        presence=presence,
        expected_output_shape=[(2, 5, 7, 4)] * count,
        expected_params=params,
    )


@pytest.mark.parametrize(
    ("switches", "matrices", "omegas"),
    [
        ({}, 6, 1 + 5 + 15),
        ({"mgifa": False}, 3, 5 + 15),
        ({"mlifa": False}, 3, 1 + 15),
        ({"omega_d": False}, 6, 5 + 15),
        ({"omega_l": False}, 6, 1 + 15),
        ({"omega_c": False}, 6, 1 + 5),
        ({"omega_d": False, "omega_l": False, "omega_c": False}, 6, 0),
        ({"shared_fc": True}, 2, 1 + 5 + 15),
        ({"local_window": None}, 3 + 3, 1 + 5 + 15),
        ({"local_window": None, "shared_fc": True}, 1 + 3, 1 + 5 + 15),
    ],
    ids=str,
)
def test_parameter_count(switches, matrices, omegas):
    layer = MIFA(**switches)
    layer.build([(None, 3, 3, 5)] * 3)
    assert layer.count_params() == matrices * (25 + 5) + omegas


def test_children_and_omegas():
    layer = MIFA()
    layer.build([(None, 3, 3, 2)] * 3)
    assert isinstance(layer.mgifa, MGIFA)
    assert isinstance(layer.mlifa, MLIFA)
    assert np.array_equal(as_numpy(layer.omega), np.ones(9))
    layer.omega.assign(np.arange(9, dtype="float32"))
    assert as_numpy(layer.omega_d).ravel().tolist() == [0]
    assert as_numpy(layer.omega_l).tolist() == [1, 2]
    assert as_numpy(layer.omega_c).ravel().tolist() == [3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("switches", "absent"),
    [
        ({"mgifa": False}, ["mgifa", "omega_d"]),
        ({"mlifa": False}, ["mlifa", "omega_l"]),
        ({"omega_c": False}, ["omega_c"]),
        ({"omega_d": False, "omega_l": False}, ["omega_d", "omega_l"]),
    ],
    ids=str,
)
def test_what_is_switched_off_is_none(switches, absent):
    layer = MIFA(**switches)
    layer.build([(None, 3, 3, 5)] * 2)
    names = ["mgifa", "mlifa", "omega_d", "omega_l", "omega_c"]
    assert [name for name in names if getattr(layer, name) is None] == absent


def test_initial_values():
    channels = 48
    layer = MIFA()
    layer.build([(None, 4, 4, channels)] * 2)
    limit = np.sqrt(6 / (2 * channels))
    matrices = [*as_numpy(layer.mgifa.kernel), *as_numpy(layer.mlifa.kernel)]
    assert len({float(matrix[0, 0]) for matrix in matrices}) == 6
    for matrix in matrices:
        assert 0.97 * limit < np.abs(matrix).max() <= limit


@pytest.mark.parametrize("window", [3, None])
def test_all_present_is_the_equation_without_mask(window):
    xs = random_maps(3)
    layer = built(MIFA(local_window=window), [x.shape for x in xs])
    assert_close(layer(xs, presence=np.ones((2, 3), "float32")), layer(xs), 1e-6)


@pytest.mark.parametrize("window", [3, None])
def test_absent_stream_is_ignored_and_leaves_as_zeros(window):
    xs, others = random_maps(3), random_maps(3, seed=50)
    layer = built(MIFA(local_window=window), [x.shape for x in xs])
    presence = np.array([[1, 0, 1], [1, 0, 1]], "float32")
    changed = [xs[0], others[1], xs[2]]
    outputs = layer(xs, presence=presence)
    assert_close(layer(changed, presence=presence), outputs, 0)
    assert not as_numpy(outputs[1]).any()
    assert as_numpy(outputs[0]).any() and as_numpy(outputs[2]).any()


def test_sample_without_any_modality_leaves_as_zeros():
    xs = random_maps(2)
    layer = built(MIFA(), [x.shape for x in xs])
    outputs = layer(xs, presence=np.array([[0, 0], [1, 1]], "float32"))
    for x in outputs:
        assert not as_numpy(x)[0].any()


def test_presence_is_taken_sample_by_sample():
    xs = random_maps(2)
    layer = built(MIFA(), [x.shape for x in xs])
    presence = np.array([[1, 0], [1, 1]], "float32")
    mixed = layer(xs, presence=presence)
    alone = layer([x[:1] for x in xs], presence=presence[:1])
    both = layer([x[1:] for x in xs])
    for index in range(2):
        assert_close(mixed[index][:1], alone[index], 1e-6)
        assert_close(mixed[index][1:], both[index], 1e-6)


def test_order_of_modalities_goes_with_omega_c():
    xs = random_maps(3)
    layer = built(MIFA(), [x.shape for x in xs])
    presence = np.array(MASKS[3], "float32")
    before = [as_numpy(x) for x in layer(xs, presence=presence)]
    order = [2, 0, 1]
    omega = as_numpy(layer.omega)
    omega[5:] = omega[5:].reshape(3, 4)[order].ravel()
    layer.omega.assign(omega)
    outputs = layer([xs[i] for i in order], presence=presence[:, order])
    assert_close(outputs, [before[i] for i in order])


def test_one_attention_serves_all_modalities():
    xs = random_maps(2)
    first, second = built(MIFA(omega_c=False), [x.shape for x in xs])(xs)
    assert_close(as_numpy(first) / xs[0], as_numpy(second) / xs[1], 1e-4)


def test_released_attention_is_the_same_all_over_the_map():
    xs = random_maps(2)
    layer = built(MIFA(local_window=None, omega_c=False), [x.shape for x in xs])
    attention = as_numpy(layer(xs)[0]) / xs[0]
    assert_close(attention, np.broadcast_to(attention[:, :1, :1], attention.shape))


def test_both_branches_off():
    with pytest.raises(ValueError, match=r"mgifa=False.*mlifa=False"):
        MIFA(mgifa=False, mlifa=False)


@pytest.mark.parametrize("window", [0, 2, -3])
def test_bad_window(window):
    with pytest.raises(ValueError, match="local_window"):
        MIFA(local_window=window)


def test_no_list():
    with pytest.raises(ValueError, match="list of feature maps"):
        MIFA()(np.zeros((2, 4, 4, 3), "float32"))


def test_empty_list():
    with pytest.raises(ValueError, match="list of feature maps"):
        MIFA().build([])


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 3), (2, 4, 4, 4, 3)])
def test_wrong_rank(shape):
    with pytest.raises(ValueError, match="batch, height, width, channels"):
        MIFA()([np.zeros(shape, "float32")] * 2)


def test_unknown_channels():
    with pytest.raises(ValueError, match="channels"):
        MIFA().build([(None, 4, 4, None)] * 2)


@pytest.mark.parametrize("other", [(2, 8, 4, 3), (2, 4, 8, 3), (2, 4, 4, 5)])
def test_unequal_maps_are_named(other):
    named = ", ".join(str(size) for size in other[1:])
    with pytest.raises(ValueError, match=rf"4, 4, 3.*{named}"):
        MIFA()([np.zeros((2, 4, 4, 3), "float32"), np.zeros(other, "float32")])


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 1), (2, 2, 1)])
def test_wrong_presence(shape):
    with pytest.raises(ValueError, match="presence"):
        MIFA()(random_maps(2), presence=np.ones(shape, "float32"))
