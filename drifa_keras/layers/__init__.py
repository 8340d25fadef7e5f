"""The modules of the papers as Keras layers."""

from drifa_keras.layers.clia import CLIA
from drifa_keras.layers.hifa import HIFA
from drifa_keras.layers.image_presence import ImagePresence
from drifa_keras.layers.mc_dropout import MCDropout
from drifa_keras.layers.mfa import MFA
from drifa_keras.layers.mgifa import MGIFA
from drifa_keras.layers.mifa import MIFA
from drifa_keras.layers.mlifa import MLIFA
from drifa_keras.layers.modality_dropout import ModalityDropout
from drifa_keras.layers.pooling import GlobalMinPooling2D
from drifa_keras.layers.rra_block import RRABlock
from drifa_keras.layers.stream_concatenate import StreamConcatenate
from drifa_keras.layers.temperature_softmax import TemperatureSoftmax

__all__ = [
    "CLIA",
    "HIFA",
    "MFA",
    "MGIFA",
    "MIFA",
    "MLIFA",
    "GlobalMinPooling2D",
    "ImagePresence",
    "MCDropout",
    "ModalityDropout",
    "RRABlock",
    "StreamConcatenate",
    "TemperatureSoftmax",
]
