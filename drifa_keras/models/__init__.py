"""Networks put together from the layers."""

from drifa_keras.models.backbones import cut_points, stage_ends
from drifa_keras.models.cost import Cost, cost
from drifa_keras.models.drifa_net import DRIFANet
from drifa_keras.models.drifa_segnet import DRIFASegNet
from drifa_keras.models.losses import DiceCrossEntropy
from drifa_keras.models.mail_net import MAILNet
from drifa_keras.models.multimodal_model import MultimodalModel
from drifa_keras.models.prediction import predict
from drifa_keras.models.presets import preset_class, presets
from drifa_keras.models.robust_mail_net import RobustMAILNet

__all__ = [
    "Cost",
    "DRIFANet",
    "DRIFASegNet",
    "DiceCrossEntropy",
    "MAILNet",
    "MultimodalModel",
    "RobustMAILNet",
    "cost",
    "cut_points",
    "predict",
    "preset_class",
    "presets",
    "stage_ends",
]
