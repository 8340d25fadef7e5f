"""Uncertainty: how sure a model is, and when not to trust it."""

from drifa_keras.uncertainty.calibration import (
    ReliabilityDiagram,
    adaptive_calibration_error,
    brier_score,
    expected_calibration_error,
    maximum_calibration_error,
    negative_log_likelihood,
    reliability_diagram,
)
from drifa_keras.uncertainty.conformal import (
    SplitConformal,
    class_coverage,
    coverage,
    split_groups,
)
from drifa_keras.uncertainty.ensemble import Ensemble
from drifa_keras.uncertainty.mc_dropout import Uncertainty, predict
from drifa_keras.uncertainty.measures import (
    disagreement,
    expected_entropy,
    mutual_information,
    predictive_entropy,
    variance,
    variation_ratio,
)
from drifa_keras.uncertainty.ood import ood_metrics
from drifa_keras.uncertainty.selective import (
    RiskCoverageCurve,
    aurc,
    coverage_at_risk,
    e_aurc,
    risk_coverage_curve,
)
from drifa_keras.uncertainty.temperature import (
    apply_temperature,
    fit_temperature,
    optimal_temperature,
    set_temperature,
)

__all__ = [
    "Ensemble",
    "ReliabilityDiagram",
    "RiskCoverageCurve",
    "SplitConformal",
    "Uncertainty",
    "adaptive_calibration_error",
    "apply_temperature",
    "aurc",
    "brier_score",
    "class_coverage",
    "coverage",
    "coverage_at_risk",
    "disagreement",
    "e_aurc",
    "expected_calibration_error",
    "expected_entropy",
    "fit_temperature",
    "maximum_calibration_error",
    "mutual_information",
    "negative_log_likelihood",
    "ood_metrics",
    "optimal_temperature",
    "predict",
    "predictive_entropy",
    "reliability_diagram",
    "risk_coverage_curve",
    "set_temperature",
    "split_groups",
    "variance",
    "variation_ratio",
]
