"""What a network sees: Grad-CAM, the gates of its attention, its features."""

from drifa_keras.explain.attention_maps import attention_maps
from drifa_keras.explain.cross_effect import Effect, cross_effect
from drifa_keras.explain.embedding import embedding, tsne
from drifa_keras.explain.grad_cam import grad_cam

__all__ = [
    "Effect",
    "attention_maps",
    "cross_effect",
    "embedding",
    "grad_cam",
    "tsne",
]
