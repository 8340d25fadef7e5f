"""Evaluation: metrics with intervals, every test image once."""

from drifa_keras.evaluation.baselines import baseline_predictions
from drifa_keras.evaluation.evaluate import (
    TaskPredictions,
    evaluate,
    predict_test,
    summarize,
)
from drifa_keras.evaluation.metrics import METRICS, classification_metrics

__all__ = [
    "METRICS",
    "TaskPredictions",
    "baseline_predictions",
    "classification_metrics",
    "evaluate",
    "predict_test",
    "summarize",
]
