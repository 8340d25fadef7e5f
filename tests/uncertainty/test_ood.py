"""Out-of-distribution detection against SciPy and loops over thresholds."""

import numpy as np
import pytest
from scipy import stats

from drifa_keras.uncertainty import ood_metrics


def draw(digits=None, seed=0):
    generator = np.random.default_rng(seed)
    inside, outside = generator.normal(0, 1, 130), generator.normal(1, 1.5, 70)
    if digits is not None:
        inside, outside = inside.round(digits), outside.round(digits)
    return inside, outside


@pytest.mark.parametrize("digits", [None, 1, 0])
def test_by_hand(digits):
    inside, outside = draw(digits)
    statistic = stats.mannwhitneyu(outside, inside).statistic
    precision_sum, reached, fpr95 = 0.0, 0.0, None
    for threshold in sorted({*inside, *outside}, reverse=True):
        true, false = np.mean(outside >= threshold), np.mean(inside >= threshold)
        found = np.sum(outside >= threshold)
        precision = found / (found + np.sum(inside >= threshold))
        precision_sum += (true - reached) * precision
        reached = true
        if fpr95 is None and true >= 0.95:
            fpr95 = false
    assert ood_metrics(inside, outside) == pytest.approx(
        {"auroc": statistic / (130 * 70), "aupr": precision_sum, "fpr95": fpr95},
        abs=1e-12,
    )


def test_perfect_hopeless_and_no_information():
    low, high = np.arange(20) / 20, np.arange(20) + 1
    perfect = ood_metrics(low, high)
    assert perfect == {"auroc": 1.0, "aupr": 1.0, "fpr95": 0.0}
    assert ood_metrics(high, low)["auroc"] == 0
    assert ood_metrics(high, low)["fpr95"] == 1
    assert ood_metrics(np.ones(30), np.ones(10)) == {
        "auroc": 0.5,
        "aupr": 0.25,
        "fpr95": 1.0,
    }


def test_fpr95_uses_every_threshold():
    # The curve is straight, and only its two ends are its corners.
    scores = np.arange(20).repeat(5)
    assert ood_metrics(scores, scores)["fpr95"] == 0.95


@pytest.mark.parametrize(
    ("inside", "outside", "message"),
    [
        ([], [1.0], r"`in_distribution`.*\(0,\)"),
        ([1.0], [], r"`out_of_distribution`.*\(0,\)"),
        ([1.0, np.nan], [1.0], "`in_distribution`.*row 1"),
        ([1.0], [np.inf], "`out_of_distribution`.*row 0"),
        ([[1.0]], [1.0], r"`in_distribution`.*\(1, 1\)"),
        (1.0, [1.0], "`in_distribution`"),
    ],
)
def test_bad_input(inside, outside, message):
    with pytest.raises(ValueError, match=message):
        ood_metrics(inside, outside)
