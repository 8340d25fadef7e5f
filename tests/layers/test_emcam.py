"""EMCAM: MFIFA and EMSCA in parallel, one attention for all modalities."""

import numpy as np
import pytest

from drifa_keras.layers import EMCAM, EMSCA, MFIFA, freeze_randomness
from harness import (
    MASKS,
    as_numpy,
    assert_close,
    random_map,
    random_maps,
    randomise,
    run_layer_test,
)
from harness_mail import expected_emcam

SHAPE = (2, 5, 7, 8)
SWITCHES = [
    {},
    {"mfifa": False},
    {"emsca": False},
    {"dct": "spatial"},
    {"released": True},
    {"released": True, "mfifa": False},
    {"released": True, "emsca": False},
]
NOISE = [
    {"noise_stddev": 0.6},
    {"noise_stddev": 0.6, "released": True},
    {"noise_stddev": 0.6, "mfifa": False},
    {"noise_stddev": 0.6, "random_ratio": 0.25, "groups": 2},
    {"random_ratio": 0.25, "groups": 2},
]


def make(count, shape=SHAPE, **kwargs):
    layer = EMCAM(**{"groups": 4, **kwargs})
    layer.build([shape] * count)
    return randomise(layer, scale=0.15)


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_equations(switches, masked):
    xs = random_maps(2, SHAPE)
    layer = make(2, **switches)
    mask = MASKS[2] if masked else None
    presence = None if mask is None else np.array(mask, "float32")
    assert_close(layer(xs, presence=presence), expected_emcam(layer, xs, mask))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_equations_for_other_numbers_of_modalities(count, masked):
    xs = random_maps(count, SHAPE)
    layer = make(count)
    mask = MASKS[count] if masked else None
    presence = None if mask is None else np.array(mask, "float32")
    outputs = layer(xs, presence=presence)
    assert isinstance(outputs, list)
    assert_close(outputs, expected_emcam(layer, xs, mask))


@pytest.mark.parametrize("kwargs", NOISE, ids=str)
def test_equations_of_robust_mail(kwargs):
    xs = random_maps(2, SHAPE)
    layer = make(2, **kwargs)
    with freeze_randomness(layer):
        outputs = [as_numpy(x) for x in layer(xs)]
        assert_close(outputs, expected_emcam(layer, xs))
    assert np.abs(as_numpy(layer(xs)[0]) - outputs[0]).max() > 1e-3


@pytest.mark.parametrize("shape", [(3, 1, 1, 4), (1, 6, 2, 4)])
def test_equations_on_odd_sizes(shape):
    xs = random_maps(2, shape)
    layer = make(2, shape)
    assert_close(layer(xs), expected_emcam(layer, xs))


def test_gate_at_first_lies_between_half_and_one():
    xs = random_maps(2, SHAPE)
    outputs = EMCAM(groups=4)(xs)
    for x, output in zip(xs, outputs, strict=True):
        gate = as_numpy(output) / x
        assert gate.min() > 0.5 and gate.max() < 0.881


def test_attention_is_what_gates():
    xs = random_maps(2, SHAPE)
    layer = EMCAM(groups=4)
    outputs = layer(xs)
    assert_close(outputs[1], xs[1] * as_numpy(layer.attention(xs)), 1e-6)


def params(count, emsca=True, mfifa=True, own_scale=True):
    total = count * 8  # omega_c
    if mfifa:
        total += 64 + 8 + 3 + 1
    if emsca:
        total += 16 + 34 * 8 + 24 * 8 + count * 8 + (8 if own_scale else 0)
    return total


@pytest.mark.parametrize(
    ("count", "kwargs", "expected"),
    [
        (2, {}, params(2)),
        (
            3,
            {"released": True, "kernel_initializer": "he_normal"},
            params(3, own_scale=False),
        ),
        (1, {"mfifa": False}, params(1, mfifa=False)),
        (2, {"emsca": False}, params(2, emsca=False)),
    ],
    ids=str,
)
def test_layer_behaves(count, kwargs, expected, tmp_path):
    run_layer_test(
        EMCAM,
        {"groups": 4, **kwargs},
        [SHAPE] * count,
        tmp_path,
        presence=count == 3,
        expected_output_shape=[SHAPE] * count,
        expected_params=expected,
    )


@pytest.mark.parametrize("released", [False, True])
def test_robust_layer_behaves(released, tmp_path):
    run_layer_test(
        EMCAM,
        {"groups": 2, "released": released, "random_ratio": 0.25, "noise_stddev": 0.6},
        [SHAPE] * 2,
        tmp_path,
        presence=True,
        expected_output_shape=[SHAPE] * 2,
        stochastic=True,
    )


def test_children_and_what_is_switched_off():
    layer = make(2)
    assert isinstance(layer.mfifa, MFIFA) and isinstance(layer.emsca, EMSCA)
    assert layer.noise is None
    assert make(2, mfifa=False).mfifa is None
    assert make(2, emsca=False).emsca is None
    assert make(2, noise_stddev=0.6, released=True).noise.weight.trainable


def test_omegas_start_at_one():
    layer = EMCAM(groups=4)
    layer.build([SHAPE] * 2)
    assert np.array_equal(as_numpy(layer.omega), np.ones(1 + 8 + 16))
    layer.omega.assign(np.arange(25, dtype="float32"))
    assert as_numpy(layer.omega_d) == 0
    assert as_numpy(layer.omega_l).tolist() == list(range(1, 9))
    assert as_numpy(layer.omega_c).ravel().tolist() == list(range(9, 25))


@pytest.mark.parametrize("kwargs", [{}, {"noise_stddev": 0.6}], ids=str)
def test_absent_modality_takes_no_part_and_leaves_as_zeros(kwargs):
    xs = random_maps(3, SHAPE)
    layer = make(3, **kwargs)
    presence = np.array([[1, 0, 1]] * 2, "float32")
    changed = [xs[0], random_map(SHAPE, seed=99), xs[2]]
    with freeze_randomness(layer):
        outputs = layer(xs, presence=presence)
        assert_close(layer(changed, presence=presence), outputs, 0)
    assert not as_numpy(outputs[1]).any()
    assert as_numpy(outputs[0]).any() and as_numpy(outputs[2]).any()


def test_presence_is_taken_sample_by_sample():
    xs = random_maps(2, SHAPE)
    layer = make(2)
    presence = np.array([[1, 0], [1, 1]], "float32")
    mixed = layer(xs, presence=presence)
    alone = layer([x[:1] for x in xs], presence=presence[:1])
    both = layer([x[1:] for x in xs])
    for index in range(2):
        assert_close(as_numpy(mixed[index])[:1], alone[index], 1e-5)
        assert_close(as_numpy(mixed[index])[1:], both[index], 1e-5)


def test_multiply_adds():
    shapes = [(None, 5, 7, 8)] * 2
    layer = make(2)
    of_branches = layer.mfifa.multiply_adds(shapes) + layer.emsca.multiply_adds(shapes)
    assert layer.multiply_adds(shapes) == of_branches
    only = make(2, emsca=False)
    assert only.multiply_adds(shapes) == only.mfifa.multiply_adds(shapes)


def test_both_branches_off():
    with pytest.raises(ValueError, match=r"mfifa=False.*emsca=False"):
        EMCAM(mfifa=False, emsca=False)


def test_groups_that_do_not_divide():
    with pytest.raises(ValueError, match="16 groups.* 8"):
        EMCAM().build([(None, 4, 4, 8)] * 2)


def test_no_list():
    with pytest.raises(ValueError, match="list of feature maps"):
        EMCAM()(np.zeros((2, 4, 4, 16), "float32"))


def test_unequal_maps_are_named():
    with pytest.raises(ValueError, match=r"4, 4, 16.*4, 8, 16"):
        EMCAM().build([(None, 4, 4, 16), (None, 4, 8, 16)])


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 2, 1)])
def test_wrong_presence(shape):
    with pytest.raises(ValueError, match="presence"):
        EMCAM(groups=4)(random_maps(2), presence=np.ones(shape, "float32"))
