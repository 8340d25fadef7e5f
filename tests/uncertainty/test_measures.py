"""Measures of uncertainty against SciPy and against counts by hand."""

import numpy as np
import pytest
from scipy import stats

from drifa_keras import uncertainty
from drifa_keras.uncertainty import (
    disagreement,
    expected_entropy,
    mutual_information,
    predictive_entropy,
    variance,
    variation_ratio,
)

MEASURES = [
    predictive_entropy,
    expected_entropy,
    mutual_information,
    variance,
    variation_ratio,
    disagreement,
]


def draw(passes=7, n=9, classes=4, seed=0):
    generator = np.random.default_rng(seed)
    return generator.dirichlet(np.ones(classes), (passes, n))


def close(actual, expected):
    assert actual.dtype == np.float64
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)


def test_entropies_agree_with_scipy():
    p = draw()
    close(predictive_entropy(p), stats.entropy(p.mean(axis=0), axis=-1))
    close(expected_entropy(p), stats.entropy(p, axis=-1).mean(axis=0))


def test_mutual_information_is_the_mean_divergence_from_the_mean():
    p = draw()
    divergence = [stats.entropy(one, p.mean(axis=0), axis=-1) for one in p]
    close(mutual_information(p), np.mean(divergence, axis=0))


def test_variance_by_hand():
    # Two passes that differ by 0.6 in each of two classes.
    close(variance([[[0.8, 0.2]], [[0.2, 0.8]]]), [0.3**2])
    # One of three classes does not vary.
    close(variance([[[0.5, 0.3, 0.2]], [[0.5, 0.1, 0.4]]]), [(0 + 0.01 + 0.01) / 3])


def test_votes_by_hand():
    votes = np.array([[0, 1, 2], [0, 1, 1], [0, 2, 1], [0, 2, 2]])  # (passes, n)
    p = 0.4 * np.eye(3)[votes] + 0.2
    close(variation_ratio(p), [0, 1 / 2, 1 / 2])
    # Of the six pairs of passes, four are of a 1 and a 2.
    close(disagreement(p), [0, 4 / 6, 4 / 6])


def test_votes_are_counted_and_not_averaged():
    # The sure pass outweighs the two others in the mean, but not in votes.
    p = [[[0.9, 0.1]], [[0.4, 0.6]], [[0.4, 0.6]]]
    close(variation_ratio(p), [1 / 3])
    close(disagreement(p), [2 / 3])


def test_votes_agree_with_scipy():
    p = draw(passes=11)
    votes = p.argmax(axis=-1)
    close(variation_ratio(p), 1 - stats.mode(votes, axis=0).count / 11)
    pairs = [votes[i] != votes[j] for i in range(11) for j in range(i)]
    close(disagreement(p), np.mean(pairs, axis=0))


def test_what_is_epistemic_and_what_is_not():
    same, opposite = np.full((2, 1, 2), 0.5), np.eye(2)[:, None]
    for p, mutual, expected in [(same, 0, np.log(2)), (opposite, np.log(2), 0)]:
        close(predictive_entropy(p), [np.log(2)])
        close(expected_entropy(p), [expected])
        close(mutual_information(p), [mutual])


@pytest.mark.parametrize("measure", MEASURES)
def test_maps_are_many_samples(measure):
    p = draw(n=2 * 3 * 5)
    maps = p.reshape(7, 2, 3, 5, 4)
    assert np.array_equal(measure(maps), measure(p).reshape(2, 3, 5))
    assert measure(p[:, :0]).shape == (0,)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_mutual_information_is_never_negative(dtype):
    equal = np.repeat(draw(1, 400, 5), 3, axis=0).astype(dtype)
    values = mutual_information(equal)
    assert values.min() == 0 and values.max() < 1e-15
    certain = np.zeros((3, 2, 5), dtype)
    certain[..., 1] = 1
    for measure in MEASURES:
        assert np.array_equal(measure(certain), [0, 0])


def test_half_precision_is_not_accumulated_in_half_precision():
    p = np.repeat(draw(2), 2000, axis=0).astype("float16")
    for measure in MEASURES:
        close(measure(p), measure(p.astype("float64")))


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("passes", "message"),
    [
        (np.full((2, 3), 1 / 3), r"\(passes, n, \.\.\., classes\).*\(2, 3\)"),
        (np.ones((2, 3, 1)), r"two classes.*\(2, 3, 1\)"),
        (np.ones((0, 3, 2)), r"at least one pass.*\(0, 3, 2\)"),
        (np.full((2, 1, 2), 0.6), r"sum to one.*1\.2.*\(0, 0\).*not logits"),
        (np.full((2, 1, 2), np.nan), "sum to one.*nan"),
        ([[[1.5, -0.5]]] * 2, r"negative.*-0\.5"),
        ([[["a", "b"]]] * 2, "floats"),
    ],
)
def test_bad_input(measure, passes, message):
    with pytest.raises(ValueError, match=message):
        measure(passes)


def test_a_single_pass_has_no_pair():
    p = draw(passes=1)
    assert np.array_equal(mutual_information(p), np.zeros(9))
    with pytest.raises(ValueError, match="single pass"):
        disagreement(p)


def test_public_names_are_sorted_and_there():
    assert uncertainty.__all__ == sorted(uncertainty.__all__)
    assert all(hasattr(uncertainty, name) for name in uncertainty.__all__)
