"""Networks put together from the layers."""

from drifa_keras.models.cost import Cost, cost
from drifa_keras.models.drifa_net import DRIFANet
from drifa_keras.models.multimodal_model import MultimodalModel
from drifa_keras.models.prediction import predict
from drifa_keras.models.presets import preset_class, presets

__all__ = [
    "Cost",
    "DRIFANet",
    "MultimodalModel",
    "cost",
    "predict",
    "preset_class",
    "presets",
]
