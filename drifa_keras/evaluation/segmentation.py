"""Scores of label maps: Dice of regions, by case and by slice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Edges of the bins of probabilities, even in their logits, that AUC is counted with.
_EDGES = 1 / (1 + np.exp(-np.linspace(-12, 12, 241)))

_ARRAYS = ("ids", "groups", "y_true", "y_pred", "counts")


@dataclass(frozen=True, eq=False)
class MapPredictions:
    """Predictions of one task that classifies every pixel, each slice once.

    Attributes:
        ids: `(slices,)` ids of the slices.
        groups: `(slices,)` which slices belong to one case.
        y_true: `(slices, height, width)` integer labels, -1 where unknown.
        y_pred: The same, the most probable class.
        regions: Name of each region that is scored to the classes that make it up.
        counts: `(slices, regions, 2, bins)`: how many pixels outside and inside of a
            region have which probability of lying in it.
    """

    ids: np.ndarray
    groups: np.ndarray
    y_true: np.ndarray
    y_pred: np.ndarray
    regions: dict[str, tuple[int, ...]]
    counts: np.ndarray


def map_predictions(ids, groups, y_true, probabilities, regions) -> MapPredictions:
    """Keeps of the probabilities of slices what their scores need.

    Args:
        ids: `(slices,)`.
        groups: `(slices,)`.
        y_true: `(slices, height, width)` integer labels, -1 where unknown.
        probabilities: `(slices, height, width, classes)`.
        regions: Name of each region to the classes that make it up.

    Returns:
        `MapPredictions`.
    """
    y_true, probabilities = np.asarray(y_true), np.asarray(probabilities)
    if probabilities.ndim != 4 or y_true.shape != probabilities.shape[:3]:
        raise ValueError(
            "Expected labels (slices, height, width) and probabilities (slices, "
            f"height, width, classes). Received: shapes {y_true.shape} and "
            f"{probabilities.shape}."
        )
    bins = len(_EDGES) + 1
    counts = np.zeros((len(y_true), len(regions), 2, bins), "int32")
    known = y_true >= 0
    for number, classes in enumerate(regions.values()):
        inside = np.isin(y_true, classes)
        place = np.digitize(probabilities[..., list(classes)].sum(axis=-1), _EDGES)
        for row in range(len(y_true)):
            cell = (inside[row] * bins + place[row])[known[row]]
            counts[row, number] = np.bincount(cell, minlength=2 * bins).reshape(2, bins)
    return MapPredictions(
        np.asarray(ids),
        np.asarray(groups),
        y_true.astype("int8"),
        probabilities.argmax(axis=-1).astype("int8"),
        dict(regions),
        counts,
    )


def joined(parts: list[MapPredictions]) -> MapPredictions:
    """Puts the predictions of several lots of slices together."""
    arrays = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in _ARRAYS
    }
    return MapPredictions(**arrays, regions=parts[0].regions)


def summarize_maps(
    predictions: MapPredictions,
    class_names: tuple[str, ...],
    bootstrap: int = 500,
    seed: int = 0,
) -> dict:
    """Summarizes the predictions of one task that classifies every pixel.

    `dice_<region>` is 2 |A and B| / (|A| + |B|) over all voxels of a case (a group),
    and the mean over the cases; 1 for a region that a case neither has nor is given.
    `slice_dice_<region>` is the same for single slices, without those that neither
    have nor are given the region. `dice` and `slice_dice` are means over the regions.
    `accuracy` is the share of the pixels whose class is right; `auc`, `sensitivity`
    and `specificity` are those of single pixels, means over the regions. Pixels of
    unknown label do not count.

    Args:
        predictions: The predictions.
        class_names: Names of the classes.
        bootstrap: Resamples of cases behind the 95 % intervals.
        seed: Seed of the resamples.

    Returns:
        A JSON-able dict, as `summarize` returns it: `images` (slices), `groups`,
        `draws`, `classes`, `metrics` (each with `value`, `spread` and `interval`),
        `confusion` (of pixels) and `notes`; also `regions`, and the Dice of every
        `case` by region.
    """
    some = (predictions.y_true >= 0).any(axis=(1, 2))
    if not some.any():
        return {"images": 0, "notes": ["No image of the test split has a label."]}
    arrays = {name: getattr(predictions, name)[some] for name in _ARRAYS}
    predictions = MapPredictions(**arrays, regions=predictions.regions)
    y_true, y_pred = predictions.y_true, predictions.y_pred
    known = y_true >= 0
    cases, case_of = np.unique(predictions.groups, return_inverse=True)
    tally = _Tally(predictions, case_of, len(cases))
    found = tally.scores(np.ones(len(cases)))
    resampled = []
    rng = np.random.default_rng(seed)
    for _ in range(bootstrap):
        drawn = rng.integers(len(cases), size=len(cases))
        resampled.append(tally.scores(np.bincount(drawn, minlength=len(cases))))
    metrics = {}
    for name, value in found.items():
        seen = [scores[name] for scores in resampled if scores[name] is not None]
        interval = (
            [float(q) for q in np.quantile(seen, (0.025, 0.975))] if seen else None
        )
        metrics[name] = None
        if value is not None:
            metrics[name] = {"value": value, "spread": 0.0, "interval": interval}
    confusion = np.zeros((len(class_names),) * 2, int)
    np.add.at(confusion, (y_true[known], y_pred[known]), 1)
    absent = [r for r, c in predictions.regions.items() if not np.isin(y_true, c).any()]
    return {
        "images": len(y_true),
        "groups": len(cases),
        "draws": 1,
        "classes": list(class_names),
        "regions": {name: list(c) for name, c in predictions.regions.items()},
        "metrics": metrics,
        "cases": {
            str(case): dict(zip(predictions.regions, row.tolist(), strict=True))
            for case, row in zip(cases, tally.dice, strict=True)
        },
        "confusion": confusion.tolist(),
        "notes": [f"No test slice has the region {name}." for name in absent],
    }


class _Tally:
    """Sums for every case, of which the scores of any choice of cases are made.

    Attributes:
        dice: `(cases, regions)`.
    """

    def __init__(self, predictions, case_of, cases):
        self._regions = list(predictions.regions)
        known = predictions.y_true >= 0

        def by_case(values):
            total = np.zeros((cases, *values.shape[1:]))
            np.add.at(total, case_of, values)
            return total

        def of_regions(labels):
            return np.stack(
                [np.isin(labels, c) & known for c in predictions.regions.values()], 1
            )

        pixels = (-2, -1)
        true, guess = of_regions(predictions.y_true), of_regions(predictions.y_pred)
        hits = (true & guess).sum(axis=pixels)
        sizes = np.stack([true.sum(axis=pixels), guess.sum(axis=pixels)])
        self._hits = by_case(hits)
        self._true, self._guess = (by_case(size) for size in sizes)
        self._known = by_case(known.sum(axis=pixels))
        right = (predictions.y_true == predictions.y_pred) & known
        self._right = by_case(right.sum(axis=pixels))
        self._counts = by_case(predictions.counts)
        self.dice = _dice(self._hits, self._true, self._guess)
        shown = sizes.sum(axis=0) > 0
        self._shown = by_case(shown)
        self._slices = by_case(np.where(shown, _dice(hits, *sizes), 0))

    def scores(self, weights):
        """Scores of the cases, each counted as often as its weight says."""

        def total(values):
            return np.tensordot(weights, values, axes=1)

        dice = total(self.dice) / weights.sum()
        shown = total(self._shown)
        slices = total(self._slices) / np.where(shown, shown, np.nan)
        known, true = total(self._known), total(self._true)
        hits, false = total(self._hits), total(self._guess) - total(self._hits)
        outside = known - true
        sensitivity = hits / np.where(true, true, np.nan)
        specificity = 1 - false / np.where(outside, outside, np.nan)
        scores = {"dice": dice.mean()}
        scores |= {f"dice_{r}": d for r, d in zip(self._regions, dice, strict=True)}
        scores["slice_dice"] = _mean(slices)
        scores |= {
            f"slice_dice_{r}": d for r, d in zip(self._regions, slices, strict=True)
        }
        scores |= {
            "accuracy": total(self._right) / known,
            "auc": _mean(np.array([area_under_roc(c) for c in total(self._counts)])),
            "sensitivity": _mean(sensitivity),
            "specificity": _mean(specificity),
        }
        return {
            name: float(value) if np.isfinite(value) else None
            for name, value in scores.items()
        }


def _dice(hits, true, guess):
    both = true + guess
    return np.where(both > 0, 2 * hits / np.maximum(both, 1), 1.0)


def _mean(values):
    """The mean of what is defined."""
    values = values[np.isfinite(values)]
    return values.mean() if len(values) else np.nan


def foreground_dice(y_true, y_pred):
    """Dice of all that is not background, slice by slice.

    Args:
        y_true: `(slices, height, width)` integer labels, -1 where unknown.
        y_pred: The same, predicted.

    Returns:
        Dice `(slices,)`, 0 where there is nothing to find, and the sizes of what is
        there and of what was found, `(2, slices)`.
    """
    true, guess = y_true > 0, (y_pred > 0) & (y_true >= 0)
    sizes = np.stack([true.sum(axis=(1, 2)), guess.sum(axis=(1, 2))])
    both = 2 * (true & guess).sum(axis=(1, 2))
    return both / np.maximum(sizes.sum(axis=0), 1), sizes


def area_under_roc(counts) -> float:
    """Area under the ROC curve; NaN where there are none of one kind.

    Args:
        counts: `(2, bins)`, negatives and positives in bins of rising score.
    """
    negatives, positives = counts
    if not negatives.sum() or not positives.sum():
        return np.nan
    below = np.cumsum(negatives) - negatives
    wins = (positives * (below + negatives / 2)).sum()
    return wins / (positives.sum() * negatives.sum())
