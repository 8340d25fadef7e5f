"""Multimodal, multi-task medical image models for Keras 3.

Importing this package registers its layers and networks with Keras, so that
`keras.models.load_model` reads a saved model without `custom_objects`.
"""

from drifa_keras import layers, models
from drifa_keras.models import DRIFANet, MultimodalModel, predict

__version__ = "0.1.0"
__all__ = [
    "DRIFANet",
    "MultimodalModel",
    "__version__",
    "layers",
    "models",
    "predict",
]
