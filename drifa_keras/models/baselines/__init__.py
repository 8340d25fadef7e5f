"""Networks to compare with: plain ones, and adaptations of other papers'."""

from drifa_keras.models.baselines.caf_net import CAFNet
from drifa_keras.models.baselines.caf_segnet import CAFSegNet
from drifa_keras.models.baselines.gloria_fusion import GLoRIAFusion
from drifa_keras.models.baselines.gloria_segnet import GLoRIASegNet
from drifa_keras.models.baselines.mtf_ma import MTFMA
from drifa_keras.models.baselines.mtf_ma_segnet import MTFMASegNet
from drifa_keras.models.baselines.mttu_net import MTTUNet
from drifa_keras.models.baselines.mttu_segnet import MTTUSegNet
from drifa_keras.models.baselines.segnet import SegNet
from drifa_keras.models.baselines.single_modality_net import SingleModalityNet
from drifa_keras.models.baselines.unet import UNet

__all__ = [
    "MTFMA",
    "CAFNet",
    "CAFSegNet",
    "GLoRIAFusion",
    "GLoRIASegNet",
    "MTFMASegNet",
    "MTTUNet",
    "MTTUSegNet",
    "SegNet",
    "SingleModalityNet",
    "UNet",
]
