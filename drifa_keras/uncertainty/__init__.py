"""Uncertainty: how sure a model is, and when not to trust it."""

from drifa_keras.uncertainty.measures import (
    disagreement,
    expected_entropy,
    mutual_information,
    predictive_entropy,
    variance,
    variation_ratio,
)

__all__ = [
    "disagreement",
    "expected_entropy",
    "mutual_information",
    "predictive_entropy",
    "variance",
    "variation_ratio",
]
