"""Evaluation: metrics with intervals, every test image once."""

from drifa_keras.evaluation.baselines import baseline_predictions
from drifa_keras.evaluation.evaluate import (
    TaskPredictions,
    evaluate,
    labelled_cases,
    predict_test,
    summarize,
)
from drifa_keras.evaluation.explanation import explain_run
from drifa_keras.evaluation.exporting import compare_exported, export_run
from drifa_keras.evaluation.map_uncertainty import (
    MapPasses,
    predict_map_passes,
    summarize_map_uncertainty,
)
from drifa_keras.evaluation.metrics import METRICS, classification_metrics
from drifa_keras.evaluation.quantify import evaluate_uncertainty, predict_passes
from drifa_keras.evaluation.robustness import attack_run
from drifa_keras.evaluation.segmentation import (
    MapPredictions,
    map_predictions,
    summarize_maps,
)
from drifa_keras.evaluation.uncertainty import PassPredictions, summarize_uncertainty
from drifa_keras.evaluation.volumes import SegmentedVolume, segment_volume

__all__ = [
    "METRICS",
    "MapPasses",
    "MapPredictions",
    "PassPredictions",
    "SegmentedVolume",
    "TaskPredictions",
    "attack_run",
    "baseline_predictions",
    "classification_metrics",
    "compare_exported",
    "evaluate",
    "evaluate_uncertainty",
    "explain_run",
    "export_run",
    "labelled_cases",
    "map_predictions",
    "predict_map_passes",
    "predict_passes",
    "predict_test",
    "segment_volume",
    "summarize",
    "summarize_map_uncertainty",
    "summarize_maps",
    "summarize_uncertainty",
]
