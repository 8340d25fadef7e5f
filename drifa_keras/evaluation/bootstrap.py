"""Confidence intervals by resampling groups."""

from __future__ import annotations

import numpy as np

from drifa_keras.evaluation.metrics import METRICS, classification_metrics


def bootstrap_intervals(
    y_true, probabilities, groups, resamples: int = 500, seed: int = 0
) -> dict[str, tuple[float, float] | None]:
    """95 % percentile intervals of every metric.

    Whole groups are drawn, since images of one lesion or slide are not independent;
    each resample takes one of the partner draws, so that their spread is part of the
    interval.

    Args:
        y_true: Integer labels `(images,)`.
        probabilities: `(draws, images, classes)`.
        groups: `(images,)`: which images belong together.
        resamples: Number of resamples.
        seed: Seed of the resampling.

    Returns:
        Dict of metric name to (low, high), `None` where it is undefined.
    """
    import sklearn

    rng = np.random.default_rng(seed)
    _, group_of = np.unique(groups, return_inverse=True)
    members = np.split(
        np.argsort(group_of, kind="stable"), np.cumsum(np.bincount(group_of))[:-1]
    )
    values = {name: [] for name in METRICS}
    # The arrays were checked once; checking each resample would double the time.
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        for _ in range(resamples):
            chosen = rng.integers(len(members), size=len(members))
            rows = np.concatenate([members[group] for group in chosen])
            draw = rng.integers(len(probabilities))
            scores = classification_metrics(y_true[rows], probabilities[draw, rows])
            for name, value in scores.items():
                if value is not None:
                    values[name].append(value)
    return {
        name: tuple(float(q) for q in np.quantile(seen, (0.025, 0.975)))
        if seen
        else None
        for name, seen in values.items()
    }
