"""Whether probabilities mean what they say."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from drifa_keras.uncertainty._checks import check_count, check_labelled
from drifa_keras.uncertainty._ties import mean_over_ties


class ReliabilityDiagram(NamedTuple):
    """Samples in bins of confidence, the probability of the most probable class.

    Attributes:
        edges: `(bins + 1,)` edges of the bins.
        count: `(bins,)` samples in each bin.
        confidence: `(bins,)` mean confidence, NaN in an empty bin.
        accuracy: `(bins,)` share of right predictions, NaN in an empty bin.
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def gap(self) -> np.ndarray:
        """`(bins,)` distance of accuracy from confidence, 0 in an empty bin."""
        return np.nan_to_num(np.abs(self.accuracy - self.confidence))


def reliability_diagram(
    y_true, probabilities, bins: int = 15, adaptive: bool = False
) -> ReliabilityDiagram:
    """Accuracy against confidence.

    Reference: Guo et al., *On Calibration of Modern Neural Networks*, ICML 2017,
    Sec. 2.

    Args:
        y_true: Integer labels `(n,)`.
        probabilities: `(n, classes)`.
        bins: Number of bins.
        adaptive: Whether bins hold equal numbers of samples, instead of having equal
            widths `(low, high]` of 0..1. There are never more of them than samples.

    Returns:
        A `ReliabilityDiagram`.

    Raises:
        ValueError: If the probabilities do not sum to one, labels lie outside the
            classes, shapes do not fit, or `bins` is below 1.
    """
    y_true, probabilities = check_labelled(y_true, probabilities)
    bins = check_count(bins, "bins")
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == y_true).astype("float64")
    if adaptive:
        order = np.argsort(confidence)
        # Samples of one confidence may fall into two bins: which, must not matter.
        confidence, right = confidence[order], mean_over_ties(confidence, right)[order]
        chunks = np.array_split(np.arange(len(order)), min(bins, len(order)))
        lows = confidence[[chunk[0] for chunk in chunks]]
        edges = np.append(lows, confidence[-1])
        member = np.repeat(np.arange(len(chunks)), [len(chunk) for chunk in chunks])
    else:
        edges = np.linspace(0, 1, bins + 1)
        member = np.digitize(confidence, edges[1:-1], right=True)

    count, confidence, accuracy = (
        np.bincount(member, weights, minlength=len(edges) - 1)
        for weights in (None, confidence, right)
    )
    size = np.where(count > 0, count, np.nan)
    return ReliabilityDiagram(edges, count, confidence / size, accuracy / size)


def expected_calibration_error(y_true, probabilities, bins: int = 15) -> float:
    """Mean distance of accuracy from confidence, over bins of equal width (ECE).

    Reference: Guo et al., *On Calibration of Modern Neural Networks*, ICML 2017,
    Eq. 3.

    Args:
        y_true: Integer labels `(n,)`.
        probabilities: `(n, classes)`.
        bins: Number of bins.

    Returns:
        From 0 (calibrated) to 1.

    Raises:
        ValueError: As `reliability_diagram`.
    """
    diagram = reliability_diagram(y_true, probabilities, bins)
    return float(np.average(diagram.gap, weights=diagram.count))


def adaptive_calibration_error(y_true, probabilities, bins: int = 15) -> float:
    """Mean distance of accuracy from confidence, over bins of equal size.

    Confident networks put nearly all samples into the last bins of
    `expected_calibration_error`; here every bin has the same say.

    Reference: Nguyen and O'Connor, *Posterior Calibration and Exploratory Analysis for
    Natural Language Processing Models*, EMNLP 2015.

    Args:
        y_true: Integer labels `(n,)`.
        probabilities: `(n, classes)`.
        bins: Number of bins.

    Returns:
        From 0 (calibrated) to 1.

    Raises:
        ValueError: As `reliability_diagram`.
    """
    diagram = reliability_diagram(y_true, probabilities, bins, adaptive=True)
    return float(np.average(diagram.gap, weights=diagram.count))


def maximum_calibration_error(y_true, probabilities, bins: int = 15) -> float:
    """Largest distance of accuracy from confidence in a bin of equal width (MCE).

    Reference: Guo et al., *On Calibration of Modern Neural Networks*, ICML 2017,
    Eq. 5.

    Args:
        y_true: Integer labels `(n,)`.
        probabilities: `(n, classes)`.
        bins: Number of bins.

    Returns:
        From 0 (calibrated) to 1.

    Raises:
        ValueError: As `reliability_diagram`.
    """
    return float(reliability_diagram(y_true, probabilities, bins).gap.max())


def brier_score(y_true, probabilities) -> float:
    """Mean squared distance of the probabilities from the one-hot labels.

    Summed over the classes, as Brier did; for two classes that is twice the score of
    the positive class alone.

    Reference: Brier, *Verification of Forecasts Expressed in Terms of Probability*,
    Monthly Weather Review 78, 1950, Eq. 2.

    Args:
        y_true: Integer labels `(n,)`.
        probabilities: `(n, classes)`.

    Returns:
        From 0 (certain and right) to 2 (certain and wrong).

    Raises:
        ValueError: If the probabilities do not sum to one, labels lie outside the
            classes, or shapes do not fit.
    """
    y_true, probabilities = check_labelled(y_true, probabilities)
    one_hot = np.eye(probabilities.shape[1])[y_true]
    return float(np.square(probabilities - one_hot).sum(axis=1).mean())


def negative_log_likelihood(y_true, probabilities) -> float:
    """Mean negative logarithm of the true class's probability (NLL), in nats.

    Args:
        y_true: Integer labels `(n,)`.
        probabilities: `(n, classes)`. A 0 counts as the smallest step of a float64
            above 1, so that one sample cannot make the mean infinite.

    Returns:
        From 0 (certain and right) to 36.

    Raises:
        ValueError: If the probabilities do not sum to one, labels lie outside the
            classes, or shapes do not fit.
    """
    y_true, probabilities = check_labelled(y_true, probabilities)
    of_true = probabilities[np.arange(len(y_true)), y_true]
    return float(-np.log(np.maximum(of_true, np.finfo("float64").eps)).mean())
