"""Means, intervals and tests over seeds, against SciPy."""

import numpy as np
import pytest
from scipy import stats

from drifa_keras.experiments import (
    holm,
    interval_95,
    mean_and_interval,
    paired_p_values,
)

VALUES = [0.71, 0.74, 0.69, 0.77, 0.70]


def test_mean_and_interval():
    mean, half = mean_and_interval(VALUES)
    low, high = stats.t.interval(
        0.95, len(VALUES) - 1, loc=np.mean(VALUES), scale=stats.sem(VALUES)
    )
    assert mean == pytest.approx(np.mean(VALUES))
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert interval_95(VALUES) == pytest.approx((low, high))


def test_one_value_has_no_interval():
    assert mean_and_interval([0.5]) == (0.5, None)
    assert interval_95([0.5]) is None


def test_holm_by_hand():
    # In order 0.005 * 4, 0.01 * 3, 0.03 * 2, and 0.04 * 1, which may not be less.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_paired_test_is_that_of_scipy():
    rng = np.random.default_rng(0)
    best = rng.normal(0.8, 0.01, 5)
    rows = {
        "a": best - rng.normal(0.02, 0.01, 5),
        "best": best,
        "b": best - rng.normal(0.01, 0.01, 5),
    }
    values = {name: dict(enumerate(of_row)) for name, of_row in rows.items()}
    name, found = paired_p_values(values)
    assert name == "best"
    raw = {row: stats.ttest_rel(rows[row], best).pvalue for row in ("a", "b")}
    small, large = sorted(raw, key=raw.get)
    assert found[small] == pytest.approx(2 * raw[small])
    assert found[large] == pytest.approx(max(2 * raw[small], raw[large]))


def test_rows_are_paired_by_their_seeds():
    best = {0: 0.9, 1: 0.8, 2: 0.7, 3: 0.95}
    row = {3: 0.90, 1: 0.78, 0: 0.81}
    expected = stats.ttest_rel([0.9, 0.8, 0.95], [0.81, 0.78, 0.90]).pvalue
    assert paired_p_values({"row": row, "best": best})[1]["row"] == pytest.approx(
        expected
    )


def test_rows_that_cannot_be_tested():
    best = {0: 0.9, 1: 0.8}
    others = {"same": best, "one seed": {0: 0.1}, "other seeds": {7: 0.1, 8: 0.2}}
    name, found = paired_p_values({"best": best, **others, "none": {}})
    assert name == "best"
    assert found == {"same": 1.0, "one seed": None, "other seeds": None}
    assert paired_p_values({"none": {}}) == (None, {})
