"""Metrics of a single-label classifier, by scikit-learn."""

from __future__ import annotations

import numpy as np

METRICS = (
    "accuracy",
    "balanced_accuracy",
    "precision",
    "recall",
    "f1",
    "auc",
    "sensitivity",
    "specificity",
)


def classification_metrics(y_true, probabilities) -> dict[str, float | None]:
    """Scores probabilities against labels, by the most probable class.

    Precision, recall, F1, sensitivity, specificity and AUC (one against the rest)
    are means over the classes that occur in `y_true`, each with the same say. Recall
    and sensitivity are the same number under the two names that papers use.

    Args:
        y_true: Integer labels `(samples,)`.
        probabilities: `(samples, classes)`.

    Returns:
        Dict of metric name to value in 0..1. `None` where it is undefined: AUC and
        specificity need a class that occurs and one that does not.

    Raises:
        ValueError: If there is no sample, shapes do not fit, or a label is outside
            the classes.
    """
    from sklearn.metrics import (
        accuracy_score,
        multilabel_confusion_matrix,
        precision_recall_fscore_support,
        roc_auc_score,
    )

    y_true, probabilities = np.asarray(y_true), np.asarray(probabilities)
    _check(y_true, probabilities)
    classes = np.arange(probabilities.shape[1])
    y_pred = probabilities.argmax(axis=1)
    present = np.unique(y_true)
    precision, recall, f1, _ = precision_recall_fscore_support(
        y_true, y_pred, labels=present, average="macro", zero_division=0
    )
    confusion = multilabel_confusion_matrix(y_true, y_pred, labels=classes)[present]
    negatives = confusion[:, 0, 0] + confusion[:, 0, 1]
    specificity = auc = None
    if len(present) > 1:
        specificity = float(np.mean(confusion[:, 0, 0] / negatives))
        auc = float(
            np.mean([roc_auc_score(y_true == k, probabilities[:, k]) for k in present])
        )
    return {
        "accuracy": float(accuracy_score(y_true, y_pred)),
        "balanced_accuracy": float(recall),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "auc": auc,
        "sensitivity": float(recall),
        "specificity": specificity,
    }


def _check(y_true, probabilities):
    if y_true.ndim != 1 or probabilities.ndim != 2 or len(y_true) != len(probabilities):
        raise ValueError(
            "Expected labels (samples,) and probabilities (samples, classes) of equal "
            f"length. Received: shapes {y_true.shape} and {probabilities.shape}."
        )
    if not len(y_true):
        raise ValueError("There is no sample to score. Check the split fractions.")
    if y_true.min() < 0 or y_true.max() >= probabilities.shape[1]:
        raise ValueError(
            f"Labels must lie in 0..{probabilities.shape[1] - 1}. Received: "
            f"{y_true.min()}..{y_true.max()}. Leave unknown labels (-1) out."
        )
