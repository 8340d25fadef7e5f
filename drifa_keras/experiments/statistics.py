"""Means over seeds, and whether they differ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np


def mean_and_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and half the width of its 95 % interval by Student's t.

    Args:
        values: One a seed.

    Returns:
        Mean and half width; the latter is `None` for a single value.
    """
    from scipy.stats import t

    values = np.asarray(values, "float64")
    count = len(values)
    if count < 2:
        return float(values.mean()), None
    half = t.ppf(0.975, count - 1) * values.std(ddof=1) / math.sqrt(count)
    return float(values.mean()), float(half)


def interval_95(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the mean by Student's t; `None` for a single value."""
    mean, half = mean_and_interval(values)
    return None if half is None else (mean - half, mean + half)


def paired_p_values(
    values: Mapping[str, Mapping[int, float]],
) -> tuple[str | None, dict[str, float | None]]:
    """Tests every row against the one with the highest mean, seed by seed.

    Student's paired t-test, two-sided, on the seeds that both rows have, with Holm's
    correction for the number of rows. The best row is found in the same figures, so
    that the values are, if anything, too small.

    Args:
        values: Row to seed to value.

    Returns:
        The best row, and for each other the corrected p-value: `None` where fewer than
        two seeds are shared.
    """
    from scipy.stats import t

    values = {row: of_row for row, of_row in values.items() if of_row}
    if not values:
        return None, {}
    best = max(values, key=lambda row: np.mean(list(values[row].values())))
    found = {}
    for row, of_row in values.items():
        if row == best:
            continue
        shared = sorted(set(of_row) & set(values[best]))
        differences = np.asarray([values[best][seed] - of_row[seed] for seed in shared])
        found[row] = None
        if len(shared) > 1:
            error = differences.std(ddof=1) / math.sqrt(len(shared))
            if error == 0:
                found[row] = float(not differences.any())
            else:
                found[row] = float(
                    2 * t.sf(abs(differences.mean()) / error, len(shared) - 1)
                )
    tested = {row: p for row, p in found.items() if p is not None}
    found |= dict(zip(tested, holm(list(tested.values())), strict=True))
    return best, found


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction for several tests.

    Reference: Holm, *A Simple Sequentially Rejective Multiple Test Procedure*,
    Scandinavian Journal of Statistics 6:65-70, 1979.

    Args:
        p_values: Of tests of one family.

    Returns:
        The corrected p-values, in their order.
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    order = np.argsort(p_values, kind="stable")
    for place, index in enumerate(order):
        largest = max(largest, (len(p_values) - place) * p_values[index])
        corrected[index] = min(1.0, float(largest))
    return corrected
