"""Networks to compare with: plain ones, and adaptations of other papers'."""

from drifa_keras.models.baselines.segnet import SegNet
from drifa_keras.models.baselines.unet import UNet

__all__ = ["SegNet", "UNet"]
