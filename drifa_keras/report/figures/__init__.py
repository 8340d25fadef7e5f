"""Figures: each a function that takes arrays and returns a matplotlib `Figure`."""

from drifa_keras.report.figures.classification import (
    confusion_matrix,
    precision_recall_curves,
    roc_curves,
)
from drifa_keras.report.figures.embedding import tsne_comparison, tsne_scatter
from drifa_keras.report.figures.images import (
    grad_cam_comparison,
    grad_cam_panels,
    image_grid,
)
from drifa_keras.report.figures.robustness import (
    accuracy_curves,
    adversarial_examples,
)
from drifa_keras.report.figures.segmentation import dice_by_case, label_map_panels
from drifa_keras.report.figures.training import training_curves
from drifa_keras.report.figures.uncertainty import (
    entropy_histogram,
    reliability_diagram,
    risk_coverage,
)

__all__ = [
    "accuracy_curves",
    "adversarial_examples",
    "confusion_matrix",
    "dice_by_case",
    "entropy_histogram",
    "grad_cam_comparison",
    "grad_cam_panels",
    "image_grid",
    "label_map_panels",
    "precision_recall_curves",
    "reliability_diagram",
    "risk_coverage",
    "roc_curves",
    "training_curves",
    "tsne_comparison",
    "tsne_scatter",
]
