"""Multimodal, multi-task medical image models for Keras 3.

Importing this package registers its layers and networks with Keras, so that
`keras.models.load_model` reads a saved model without `custom_objects`.
"""

import importlib

from drifa_keras import layers, models, uncertainty
from drifa_keras.models import (
    DRIFANet,
    DRIFASegNet,
    MAILNet,
    MultimodalModel,
    RobustMAILNet,
    predict,
)

__version__ = "0.1.0"
__all__ = [
    "DRIFANet",
    "DRIFASegNet",
    "MAILNet",
    "MultimodalModel",
    "RobustMAILNet",
    "__version__",
    "configs",
    "data",
    "deployment",
    "evaluation",
    "experiments",
    "explain",
    "gradients",
    "layers",
    "models",
    "predict",
    "report",
    "robustness",
    "runs",
    "training",
    "uncertainty",
]

# What needs more than Keras and a backend is imported when it is used.
_ON_USE = (
    "configs",
    "data",
    "deployment",
    "evaluation",
    "experiments",
    "explain",
    "gradients",
    "report",
    "robustness",
    "runs",
    "training",
)


def __getattr__(name):
    if name in _ON_USE:
        return importlib.import_module(f"drifa_keras.{name}")
    raise AttributeError(f"module 'drifa_keras' has no attribute {name!r}")


def __dir__():
    return __all__
