"""Prediction sets that hold the true class as often as promised."""

from __future__ import annotations

import math

import numpy as np

from drifa_keras.uncertainty._checks import (
    check_groups,
    check_labelled,
    check_labels,
    check_probabilities,
    check_share,
)

METHODS = ("thr", "aps", "raps")


class SplitConformal:
    """Split-conformal prediction sets.

    A score says how odd each class would be for a sample. Of the calibration
    samples, the score of the true class is known; a set holds the classes whose score
    is no higher than the `ceil((n + 1) (1 - alpha)) / n` quantile of those:

    ```
    thr   1 - p_y
    aps   p_(1) + ... + p_(k) - u p_(k),     y being the k-th most probable class
    raps  that of aps + penalty max(0, k - penalty_from)
    ```

    with `u` uniform in 0..1. If calibration and test samples are exchangeable, sets
    hold the true class with a probability of at least `1 - alpha`, however good the
    model is. Images of one patient are not: keep each group on one side, as
    `split_groups` does. Sets may be empty, where no class would be as usual as the
    calibration samples were.

    Reference: Sadinle, Lei and Wasserman, *Least Ambiguous Set-Valued Classifiers with
    Bounded Error Levels*, JASA 2019 (THR); Romano, Sesia and Candes, *Classification
    with Valid and Adaptive Coverage*, NeurIPS 2020 (APS); Angelopoulos et al.,
    *Uncertainty Sets for Image Classifiers using Conformal Prediction*, ICLR 2021
    (RAPS).

    Args:
        method: `"thr"` (the smallest sets), `"aps"` (larger ones where it is
            difficult) or `"raps"` (the same without long tails).
        alpha: Share of the sets that may miss the true class.
        class_conditional: Whether the promise holds for every class by itself, by a
            quantile for each.
        randomized: Whether APS and RAPS draw `u`; it is 0 otherwise, and sets are
            larger than they need be.
        penalty: Of RAPS, for each class beyond `penalty_from`.
        penalty_from: Of RAPS, the number of classes without penalty.
        seed: Seed of `u`.

    Attributes:
        threshold: The quantile; one for each class, `(classes,)`, where
            `class_conditional`. `None` until `fit`.

    Example:
    ```python
    conformal = SplitConformal("raps", alpha=0.1)
    conformal.fit(calibration_probabilities, calibration_labels)
    sets = conformal.predict(probabilities)  # (n, classes), bool
    ```
    """

    def __init__(
        self,
        method: str = "raps",
        alpha: float = 0.1,
        class_conditional: bool = False,
        randomized: bool = True,
        penalty: float = 0.1,
        penalty_from: int = 1,
        seed: int = 0,
    ):
        if method not in METHODS:
            raise ValueError(
                f"`method` must be one of {METHODS}. Received: {method!r}."
            )
        if not (penalty >= 0 and penalty_from >= 0):
            raise ValueError(
                "`penalty` and `penalty_from` must not be negative. Received: "
                f"{penalty!r} and {penalty_from!r}."
            )
        self.method = method
        self.alpha = check_share(alpha, "alpha")
        self.class_conditional = class_conditional
        self.randomized = randomized
        self.penalty = penalty
        self.penalty_from = penalty_from
        self.seed = seed
        self.threshold = None
        self._classes = None
        self._groups = None

    def fit(self, probabilities, y_true, groups=None) -> SplitConformal:
        """Finds the threshold on the calibration samples.

        Args:
            probabilities: `(n, classes)`.
            y_true: Integer labels `(n,)`.
            groups: `(n,)` which samples belong together; `predict` then refuses those
                of the same group.

        Returns:
            This object.

        Raises:
            ValueError: If there are fewer than `1 / alpha` samples (of each class,
                where `class_conditional`), the probabilities do not sum to one, labels
                lie outside the classes, or shapes do not fit.
        """
        y_true, probabilities = check_labelled(y_true, probabilities)
        groups = check_groups(groups, len(y_true))
        n, classes = probabilities.shape
        scores = self._scores(probabilities, stream=0)[np.arange(n), y_true]
        if self.class_conditional:
            threshold = np.array(
                [
                    self._quantile(scores[y_true == k], f" of class {k}")
                    for k in range(classes)
                ]
            )
        else:
            threshold = self._quantile(scores)
        self.threshold, self._classes, self._groups = threshold, classes, groups
        return self

    def predict(self, probabilities, groups=None) -> np.ndarray:
        """Makes the prediction sets.

        Args:
            probabilities: `(n, classes)`.
            groups: `(n,)` which samples belong together. None of them may be a group
                of the calibration samples.

        Returns:
            `(n, classes)` bool: which classes the set of each sample holds.

        Raises:
            ValueError: If `fit` was not called, a group occurs in both, the
                probabilities do not sum to one, or shapes do not fit.
        """
        if self.threshold is None:
            raise ValueError("Call `fit` with calibration samples first.")
        probabilities = check_probabilities(probabilities)
        if probabilities.shape[1] != self._classes:
            raise ValueError(
                f"Expected probabilities of {self._classes} classes, as in `fit`. "
                f"Received: shape {probabilities.shape}."
            )
        self._require_disjoint(check_groups(groups, len(probabilities)))
        return self._scores(probabilities, stream=1) <= self.threshold

    def _scores(self, probabilities, stream):
        """Scores `(n, classes)` of every class of every sample."""
        if self.method == "thr":
            return 1 - probabilities
        order = np.argsort(-probabilities, axis=1, kind="stable")
        ordered = np.take_along_axis(probabilities, order, axis=1)
        scores = np.cumsum(ordered, axis=1)
        if self.randomized:
            # Calibration and test samples draw from streams of their own.
            u = np.random.default_rng([self.seed, stream]).random((len(scores), 1))
            scores -= u * ordered
        if self.method == "raps":
            rank = np.arange(1, scores.shape[1] + 1)
            scores += self.penalty * np.maximum(0, rank - self.penalty_from)
        unsorted = np.empty_like(scores)
        np.put_along_axis(unsorted, order, scores, axis=1)
        return unsorted

    def _quantile(self, scores, whose=""):
        n, least = len(scores), math.ceil(1 / self.alpha - 1e-9)
        if n < least:
            raise ValueError(
                f"alpha={self.alpha:g} needs at least {least} calibration samples"
                f"{whose}. Received: {n}. Calibrate on more, or raise alpha"
                f"{' (or class_conditional=False)' if whose else ''}."
            )
        rank = math.ceil((n + 1) * (1 - self.alpha) - 1e-9)
        return np.sort(scores)[rank - 1]

    def _require_disjoint(self, groups):
        if groups is None:
            return
        if self._groups is None:
            raise ValueError(
                "The groups of the calibration samples are not known: pass `groups` to "
                "`fit` too."
            )
        shared = np.intersect1d(groups, self._groups)
        if len(shared):
            raise ValueError(
                f"{len(shared)} group(s), such as {shared[0]!s}, are among both the "
                "calibration and the test samples, which are not exchangeable then. "
                "Divide them with `split_groups`."
            )


def coverage(sets, y_true) -> float:
    """Share of the prediction sets that hold the true class.

    Args:
        sets: `(n, classes)` bool, from `SplitConformal.predict`.
        y_true: Integer labels `(n,)`.

    Returns:
        From 0 to 1.

    Raises:
        ValueError: If labels lie outside the classes, or shapes do not fit.
    """
    sets, y_true = _check_sets(sets, y_true)
    return float(sets[np.arange(len(sets)), y_true].mean())


def class_coverage(sets, y_true) -> np.ndarray:
    """Share of the prediction sets of each class's samples that hold that class.

    Args:
        sets: `(n, classes)` bool, from `SplitConformal.predict`.
        y_true: Integer labels `(n,)`.

    Returns:
        `(classes,)`, from 0 to 1, NaN for a class without a sample.

    Raises:
        ValueError: If labels lie outside the classes, or shapes do not fit.
    """
    sets, y_true = _check_sets(sets, y_true)
    held = sets[np.arange(len(sets)), y_true]
    count = np.bincount(y_true, minlength=sets.shape[1])
    hits = np.bincount(y_true, held, minlength=sets.shape[1])
    return hits / np.where(count > 0, count, np.nan)


def split_groups(groups, share: float = 0.5, seed: int = 0) -> np.ndarray:
    """Divides samples at random into two parts that have no group in common.

    Args:
        groups: `(n,)` which samples belong together.
        share: Share of the groups in the first part.
        seed: Seed of the division.

    Returns:
        `(n,)` bool, true for the first part, such as the calibration samples.

    Raises:
        ValueError: If there are fewer than two groups, or `share` is not in 0..1.
    """
    share = check_share(share, "share")
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"Two parts need at least two groups. Received: {len(names)}.")
    first = min(max(1, round(share * len(names))), len(names) - 1)
    chosen = np.zeros(len(names), bool)
    chosen[np.random.default_rng(seed).permutation(len(names))[:first]] = True
    return chosen[group]


def _check_sets(sets, y_true):
    sets = np.asarray(sets)
    if sets.ndim != 2 or sets.dtype != bool or not len(sets):
        raise ValueError(
            "Expected prediction sets (n, classes) of bool, from `predict`. "
            f"Received: shape {sets.shape} of {sets.dtype}."
        )
    return sets, check_labels(y_true, *sets.shape)
