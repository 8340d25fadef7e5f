"""Selective prediction: to answer only where the model is sure enough.

Samples are accepted from the surest on. Coverage is the share that is accepted, risk
the share of wrong predictions among them. Samples of equal confidence are accepted in
any order; the risk is its mean over all such orders, so that neither the order of the
rows nor chance decides.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from drifa_keras.uncertainty._checks import check_labelled, check_share, check_values
from drifa_keras.uncertainty._ties import mean_over_ties


class RiskCoverageCurve(NamedTuple):
    """Risk at every coverage, from the surest sample on to all of them.

    Attributes:
        coverage: `(n,)` share of the samples that are accepted: 1/n, 2/n, ..., 1.
        risk: `(n,)` share of wrong predictions among them.
        confidence: `(n,)` confidence of the last one accepted, decreasing.
    """

    coverage: np.ndarray
    risk: np.ndarray
    confidence: np.ndarray


def risk_coverage_curve(y_true, probabilities, confidence=None) -> RiskCoverageCurve:
    """Risk of the predictions that are accepted, at every coverage.

    Reference: Geifman and El-Yaniv, *Selective Classification for Deep Neural
    Networks*, NeurIPS 2017.

    Args:
        y_true: Integer labels `(n,)`.
        probabilities: `(n, classes)`; the most probable class is the prediction.
        confidence: `(n,)`, higher where the model is surer, such as the negative
            `mutual_information`. The probability of the prediction by default.

    Returns:
        A `RiskCoverageCurve`.

    Raises:
        ValueError: If the probabilities do not sum to one, labels lie outside the
            classes, a confidence is not finite, or shapes do not fit.
    """
    y_true, probabilities = check_labelled(y_true, probabilities)
    if confidence is None:
        confidence = probabilities.max(axis=1)
    confidence = check_values(confidence, "confidence", len(y_true))
    wrong = mean_over_ties(confidence, probabilities.argmax(axis=1) != y_true)
    order = np.argsort(-confidence)
    accepted = np.arange(1, len(order) + 1)
    return RiskCoverageCurve(
        coverage=accepted / len(order),
        risk=np.cumsum(wrong[order]) / accepted,
        confidence=confidence[order],
    )


def aurc(y_true, probabilities, confidence=None) -> float:
    """Area under the risk-coverage curve: the mean of the risk over all coverages.

    Reference: Geifman, Uziel and El-Yaniv, *Bias-Reduced Uncertainty Estimation for
    Deep Neural Classifiers*, ICLR 2019.

    Args:
        y_true: Integer labels `(n,)`.
        probabilities: `(n, classes)`.
        confidence: As in `risk_coverage_curve`.

    Returns:
        From 0 (nothing is wrong) to 1 (everything is).

    Raises:
        ValueError: As `risk_coverage_curve`.
    """
    return float(risk_coverage_curve(y_true, probabilities, confidence).risk.mean())


def e_aurc(y_true, probabilities, confidence=None) -> float:
    """AURC above that of a confidence that puts every error last.

    With `e` the share of errors, the best area is `e + (1 - e) ln(1 - e)`.

    Reference: Geifman, Uziel and El-Yaniv, *Bias-Reduced Uncertainty Estimation for
    Deep Neural Classifiers*, ICLR 2019.

    Args:
        y_true: Integer labels `(n,)`.
        probabilities: `(n, classes)`.
        confidence: As in `risk_coverage_curve`.

    Returns:
        From 0 (no order of the samples is better) to 1. The best area is that of
        infinitely many samples, so that a few percent remain where there are few.

    Raises:
        ValueError: As `risk_coverage_curve`.
    """
    risk = risk_coverage_curve(y_true, probabilities, confidence).risk
    errors = risk[-1]
    best = errors
    if errors < 1:
        best += (1 - errors) * np.log1p(-errors)
    return float(risk.mean() - best)


def coverage_at_risk(
    y_true, probabilities, target: float, confidence=None
) -> tuple[float, float | None]:
    """The largest share of the samples that can be answered at a target risk.

    Args:
        y_true: Integer labels `(n,)`.
        probabilities: `(n, classes)`.
        target: The risk that is allowed, between 0 and 1.
        confidence: As in `risk_coverage_curve`.

    Returns:
        Tuple of the coverage and of the confidence from which on to accept (samples
        of equal confidence are accepted together); 0 and `None` where no confidence
        is high enough.

    Raises:
        ValueError: As `risk_coverage_curve`, or if `target` is not between 0 and 1.
    """
    target = check_share(target, "target")
    curve = risk_coverage_curve(y_true, probabilities, confidence)
    last_of_equals = np.append(curve.confidence[1:] < curve.confidence[:-1], True)
    # A mean over ties, summed up again, may be off by a rounding.
    usable = np.flatnonzero(last_of_equals & (curve.risk <= target + 1e-12))
    if not len(usable):
        return 0.0, None
    return float(curve.coverage[usable[-1]]), float(curve.confidence[usable[-1]])
