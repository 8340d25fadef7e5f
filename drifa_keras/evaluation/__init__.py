"""Evaluation: metrics with intervals, every test image once."""

from drifa_keras.evaluation.baselines import baseline_predictions
from drifa_keras.evaluation.evaluate import (
    TaskPredictions,
    evaluate,
    predict_test,
    summarize,
)
from drifa_keras.evaluation.explanation import explain_run
from drifa_keras.evaluation.metrics import METRICS, classification_metrics
from drifa_keras.evaluation.quantify import evaluate_uncertainty, predict_passes
from drifa_keras.evaluation.robustness import attack_run
from drifa_keras.evaluation.uncertainty import PassPredictions, summarize_uncertainty

__all__ = [
    "METRICS",
    "PassPredictions",
    "TaskPredictions",
    "attack_run",
    "baseline_predictions",
    "classification_metrics",
    "evaluate",
    "evaluate_uncertainty",
    "explain_run",
    "predict_passes",
    "predict_test",
    "summarize",
    "summarize_uncertainty",
]
