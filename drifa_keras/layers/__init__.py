"""The modules of the papers as Keras layers."""

from drifa_keras.layers._clip import straight_through_clips
from drifa_keras.layers.attention_noise import AttentionNoise
from drifa_keras.layers.channel_attention import ChannelAttention
from drifa_keras.layers.clia import CLIA
from drifa_keras.layers.cross_modal_attention import CrossModalAttention
from drifa_keras.layers.emcam import EMCAM
from drifa_keras.layers.emila import EMILA
from drifa_keras.layers.emsca import EMSCA
from drifa_keras.layers.erla_block import ERLABlock
from drifa_keras.layers.hifa import HIFA
from drifa_keras.layers.image_presence import ImagePresence
from drifa_keras.layers.max_pooling_with_indices import MaxPoolingWithIndices2D
from drifa_keras.layers.max_unpooling import MaxUnpooling2D
from drifa_keras.layers.mc_dropout import MCDropout
from drifa_keras.layers.mfa import MFA
from drifa_keras.layers.mfifa import MFIFA
from drifa_keras.layers.mgifa import MGIFA
from drifa_keras.layers.mifa import MIFA
from drifa_keras.layers.mlifa import MLIFA
from drifa_keras.layers.modality_dropout import ModalityDropout
from drifa_keras.layers.msgdc import MSGDC
from drifa_keras.layers.pooling import GlobalMinPooling2D
from drifa_keras.layers.random_projection_conv2d import RandomProjectionConv2D
from drifa_keras.layers.random_projection_depthwise_conv2d import (
    RandomProjectionDepthwiseConv2D,
)
from drifa_keras.layers.randomness import draw, freeze_randomness, seed_states
from drifa_keras.layers.rra_block import RRABlock
from drifa_keras.layers.stream_concatenate import StreamConcatenate
from drifa_keras.layers.temperature_softmax import TemperatureSoftmax

__all__ = [
    "CLIA",
    "EMCAM",
    "EMILA",
    "EMSCA",
    "HIFA",
    "MFA",
    "MFIFA",
    "MGIFA",
    "MIFA",
    "MLIFA",
    "MSGDC",
    "AttentionNoise",
    "ChannelAttention",
    "CrossModalAttention",
    "ERLABlock",
    "GlobalMinPooling2D",
    "ImagePresence",
    "MCDropout",
    "MaxPoolingWithIndices2D",
    "MaxUnpooling2D",
    "ModalityDropout",
    "RRABlock",
    "RandomProjectionConv2D",
    "RandomProjectionDepthwiseConv2D",
    "StreamConcatenate",
    "TemperatureSoftmax",
    "draw",
    "freeze_randomness",
    "seed_states",
    "straight_through_clips",
]
