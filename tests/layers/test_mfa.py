"""MFA (Eq. 4) with the switches of Tables 5 and 6."""

import numpy as np
import pytest

from drifa_keras.layers import CLIA, HIFA, MFA
from harness import (
    as_numpy,
    assert_close,
    built,
    expected_mfa,
    random_map,
    run_layer_test,
)

SWITCHES = [
    {},
    {"hifa": False},
    {"clia": False},
    {"omega_d": False},
    {"omega_l": False},
    {"omega_c": False},
    {"omega_d": False, "omega_l": False},
    {"omega_d": False, "omega_l": False, "omega_c": False},
    {"hifa": False, "omega_l": False},
    {"clia": False, "omega_d": False, "omega_c": False},
    {"activation": "relu"},
    {"activation": None, "omega_d": False},
]


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_equations(switches):
    x = random_map((2, 5, 7, 4))
    layer = built(MFA(**switches), x.shape)
    assert_close(layer(x), expected_mfa(layer, x, **switches))


@pytest.mark.parametrize("shape", [(3, 1, 1, 3), (1, 6, 2, 1)])
def test_equations_on_odd_sizes(shape):
    x = random_map(shape)
    layer = built(MFA(), shape)
    assert_close(layer(x), expected_mfa(layer, x))


@pytest.mark.parametrize(
    ("switches", "params"),
    [
        ({}, 8 * 16 + 7 * 4 + 1 + 2 * 4),
        ({"hifa": False, "omega_c": False}, 2 * 16 + 2 * 4 + 4),
        (
            {"clia": False, "activation": None, "kernel_initializer": "he_normal"},
            6 * 16 + 5 * 4 + 1 + 4,
        ),
    ],
    ids=str,
)
def test_layer_behaves(switches, params, tmp_path):
    run_layer_test(
        MFA,
        switches,
        (2, 5, 7, 4),
        tmp_path,
        expected_output_shape=(2, 5, 7, 4),
        expected_params=params,
    )


@pytest.mark.parametrize(
    ("switches", "omegas"),
    [
        ({}, 1 + 5 + 5),
        ({"hifa": False}, 5 + 5),
        ({"clia": False}, 1 + 5),
        ({"omega_d": False}, 5 + 5),
        ({"omega_l": False}, 1 + 5),
        ({"omega_c": False}, 1 + 5),
        ({"omega_d": False, "omega_l": False, "omega_c": False}, 0),
        ({"hifa": False, "omega_l": False, "omega_c": False}, 0),
    ],
    ids=str,
)
def test_parameter_count(switches, omegas):
    layer = MFA(**switches)
    layer.build((None, 3, 3, 5))
    branches = 0
    if switches.get("hifa", True):
        branches += 6 * 25 + 5 * 5
    if switches.get("clia", True):
        branches += 2 * 25 + 2 * 5
    assert layer.count_params() == branches + omegas


def test_children_and_omegas():
    layer = MFA()
    layer.build((None, 3, 3, 5))
    assert isinstance(layer.hifa, HIFA)
    assert isinstance(layer.clia, CLIA)
    assert np.array_equal(as_numpy(layer.omega), np.ones(11))
    layer.omega.assign(np.arange(11, dtype="float32"))
    assert as_numpy(layer.omega_d).ravel().tolist() == [0]
    assert as_numpy(layer.omega_l).tolist() == [1, 2, 3, 4, 5]
    assert as_numpy(layer.omega_c).tolist() == [6, 7, 8, 9, 10]


@pytest.mark.parametrize(
    ("switches", "absent"),
    [
        ({"hifa": False}, ["hifa", "omega_d"]),
        ({"clia": False}, ["clia", "omega_l"]),
        ({"omega_c": False}, ["omega_c"]),
        ({"omega_d": False, "omega_l": False}, ["omega_d", "omega_l"]),
    ],
    ids=str,
)
def test_what_is_switched_off_is_none(switches, absent):
    layer = MFA(**switches)
    layer.build((None, 3, 3, 5))
    names = ["hifa", "clia", "omega_d", "omega_l", "omega_c"]
    assert [name for name in names if getattr(layer, name) is None] == absent


def test_absent_omega_counts_as_one():
    x = random_map((2, 4, 4, 3))
    with_omegas, without = MFA(), MFA(omega_d=False, omega_l=False, omega_c=False)
    built(without, x.shape)
    with_omegas.build(x.shape)
    for name in ("hifa", "clia"):
        getattr(with_omegas, name).set_weights(getattr(without, name).get_weights())
    assert_close(with_omegas(x), without(x), 1e-6)


def test_initial_values():
    channels = 48
    layer = MFA()
    layer.build((None, None, None, channels))
    own, final = np.sqrt(6 / (2 * channels)), np.sqrt(6 / (3 * channels))
    matrices = [*as_numpy(layer.hifa.kernel), *as_numpy(layer.clia.kernel)]
    for matrix, limit in zip(
        matrices, [own] * 4 + [final] * 2 + [own] * 2, strict=True
    ):
        assert 0.97 * limit < np.abs(matrix).max() <= limit
    assert len({float(matrix[0, 0]) for matrix in matrices}) == 8


def test_activation_and_initializer_reach_the_branches():
    layer = MFA(activation=None, kernel_initializer="zeros")
    layer.build((None, 3, 3, 5))
    for branch in (layer.hifa, layer.clia):
        assert not as_numpy(branch.kernel).any()
    x = random_map((2, 3, 3, 5))
    # With zero matrices a linear HIFA is 0, a logistic one 1/2.
    assert_close(layer.hifa(x), np.zeros((2, 5)))
    assert_close(layer.clia(x), np.ones((2, 5)))


def test_gate_at_first_lies_between_half_and_one():
    x = random_map((2, 4, 4, 6))
    gate = as_numpy(MFA()(x)) / x
    assert gate.min() > 0.5 and gate.max() < 0.96


def test_both_branches_off():
    with pytest.raises(ValueError, match=r"hifa=False.*clia=False"):
        MFA(hifa=False, clia=False)


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 3), (2, 4, 4, 4, 3)])
def test_wrong_rank(shape):
    with pytest.raises(ValueError, match="batch, height, width, channels"):
        MFA()(np.zeros(shape, "float32"))


def test_unknown_channels():
    with pytest.raises(ValueError, match="channels"):
        MFA().build((None, 4, 4, None))
