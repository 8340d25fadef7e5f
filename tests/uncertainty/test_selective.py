"""Selective prediction against loops over coverages and over orders."""

import itertools

import numpy as np
import pytest

from drifa_keras.uncertainty import (
    aurc,
    coverage_at_risk,
    e_aurc,
    risk_coverage_curve,
)


def draw(n=200, seed=0):
    generator = np.random.default_rng(seed)
    p = generator.dirichlet(np.ones(3), n)
    y_true = (generator.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1)
    return y_true, p


def one_hot(labels, classes=2):
    return np.eye(classes)[np.asarray(labels)]


def risks_by_hand(wrong, order):
    risks, seen = [], 0
    for accepted, row in enumerate(order, start=1):
        seen += int(wrong[row])
        risks.append(seen / accepted)
    return risks


def test_by_hand():
    y_true, p = draw()
    wrong = p.argmax(axis=1) != y_true
    order = sorted(range(200), key=lambda row: -max(p[row]))
    risks = risks_by_hand(wrong, order)
    curve = risk_coverage_curve(y_true, p)
    np.testing.assert_allclose(curve.risk, risks, atol=1e-12)
    np.testing.assert_allclose(curve.coverage, [k / 200 for k in range(1, 201)])
    assert curve.confidence.tolist() == [max(p[row]) for row in order]
    assert aurc(y_true, p) == pytest.approx(sum(risks) / 200, abs=1e-12)
    e = wrong.mean()
    best = e + (1 - e) * np.log(1 - e)
    assert e_aurc(y_true, p) == pytest.approx(sum(risks) / 200 - best, abs=1e-12)


def test_any_confidence_orders():
    y_true, p = draw()
    wrong = p.argmax(axis=1) != y_true
    confidence = np.random.default_rng(3).normal(size=200)
    order = sorted(range(200), key=lambda row: -confidence[row])
    risks = risks_by_hand(wrong, order)
    assert aurc(y_true, p, confidence) == pytest.approx(np.mean(risks), abs=1e-12)
    assert aurc(y_true, p, -confidence) != pytest.approx(np.mean(risks), abs=1e-3)
    # Only the order matters.
    assert aurc(y_true, p, np.exp(confidence)) == aurc(y_true, p, confidence)


def test_ties_are_the_mean_over_all_orders():
    y_true = np.array([0, 1, 0, 0, 1, 1])
    p, confidence = one_hot(np.zeros(6, int)), np.array([2, 2, 2, 1, 1, 3])
    wrong = y_true == 1
    every = [
        risks_by_hand(wrong, [5, *first, *last])
        for first in itertools.permutations([0, 1, 2])
        for last in itertools.permutations([3, 4])
    ]
    curve = risk_coverage_curve(y_true, p, confidence)
    np.testing.assert_allclose(curve.risk, np.mean(every, axis=0), atol=1e-12)


def test_order_of_the_rows_does_not_matter():
    y_true, p = draw()
    p = np.round(p, 1)
    p[:, 0] += 1 - p.sum(axis=1)
    shuffled = np.random.default_rng(5).permutation(200)
    assert aurc(y_true, p) == pytest.approx(aurc(y_true[shuffled], p[shuffled]))
    # Confidence that says nothing has the risk of all at every coverage.
    flat = risk_coverage_curve(y_true, p, np.zeros(200))
    np.testing.assert_allclose(flat.risk, np.mean(p.argmax(axis=1) != y_true))


def test_best_and_worst_order():
    n = 4000
    y_true = np.zeros(n, int)
    wrong = np.arange(n) < n // 4
    p = one_hot(wrong.astype(int))
    assert 0 <= e_aurc(y_true, p, -1.0 * wrong) < 1e-3
    assert e_aurc(y_true, p, 1.0 * wrong) > 0.3
    assert aurc(y_true, one_hot(y_true)) == e_aurc(y_true, one_hot(y_true)) == 0
    assert aurc(y_true, one_hot(y_true + 1)) == 1
    assert e_aurc(y_true, one_hot(y_true + 1)) == 0


def test_coverage_at_risk_by_hand():
    # Wrong, from the surest on: no no YES no no no YES YES
    wrong = np.array([0, 0, 1, 0, 0, 0, 1, 1])
    confidence = np.linspace(0.9, 0.2, 8)
    p, y_true = one_hot(np.zeros(8, int)), wrong
    for target, accepted in [(0.1, 2), (1 / 6, 6), (0.2, 6), (0.3, 7), (0.375, 8)]:
        share, threshold = coverage_at_risk(y_true, p, target, confidence)
        assert share == accepted / 8
        assert threshold == confidence[accepted - 1]
    assert coverage_at_risk(1 - wrong, p, 0.1, confidence) == (0.0, None)


def test_coverage_at_risk_does_not_divide_equals():
    # Two of the four equals would be enough, but no threshold parts them.
    y_true, confidence = np.array([0, 0, 0, 1, 1, 0]), np.array([3, 2, 1, 1, 1, 1])
    p = one_hot(np.zeros(6, int))
    assert coverage_at_risk(y_true, p, 0.25, confidence) == (2 / 6, 2.0)
    assert coverage_at_risk(y_true, p, 1 / 3, confidence) == (1.0, 1.0)


def test_coverage_at_risk_is_not_lost_to_rounding():
    # Nine times the mean of the nine equals adds up to a hair more than 1.
    y_true, p = np.eye(9, dtype=int)[0], one_hot(np.zeros(9, int))
    assert risk_coverage_curve(y_true, p).risk[-1] > 1 / 9
    assert coverage_at_risk(y_true, p, 1 / 9) == (1.0, 1.0)


def test_accepting_from_the_threshold_on_keeps_the_promise():
    y_true, p = draw(500)
    share, threshold = coverage_at_risk(y_true, p, 0.2)
    accepted = p.max(axis=1) >= threshold
    assert accepted.mean() == share
    assert (p.argmax(axis=1) != y_true)[accepted].mean() <= 0.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0], [[0.5, 0.4]]), "sum to one"),
        (([3], [[0.5, 0.5]]), r"0\.\.1.*3\.\.3"),
        (([0], [[0.5, 0.5]], [0.1, 0.2]), r"`confidence`.*\(1,\).*\(2,\)"),
        (([0], [[0.5, 0.5]], [np.nan]), "`confidence`.*row 0"),
        (([0], [[0.5, 0.5]], ["sure"]), "`confidence`"),
    ],
)
def test_bad_input(arguments, message):
    for metric in (risk_coverage_curve, aurc, e_aurc):
        with pytest.raises(ValueError, match=message):
            metric(*arguments)


@pytest.mark.parametrize("target", [0, 1, -0.1, 5, np.nan, None, "low"])
def test_bad_target(target):
    with pytest.raises(ValueError, match="`target`"):
        coverage_at_risk([0], [[0.5, 0.5]], target)
