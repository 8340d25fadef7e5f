"""Pooling that core Keras lacks."""

import keras

from drifa_keras.layers._packing import require_map, spatial_min


@keras.saving.register_keras_serializable(package="drifa_keras")
class GlobalMinPooling2D(keras.layers.Layer):
    """Minimum over height and width, beside Keras' `GlobalMaxPooling2D`.

    Reference: the pooling alpha of Eq. 6 in Dhar et al., *Multimodal Fusion
    Learning with Dual Attention for Medical Imaging*, WACV 2025.

    Args:
        keepdims: Whether to keep height and width as axes of length 1.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        x: Feature map of shape `(batch, height, width, channels)`.

    Returns:
        `(batch, channels)`, or `(batch, 1, 1, channels)` with `keepdims=True`.
    """

    def __init__(self, keepdims=False, **kwargs):
        super().__init__(**kwargs)
        self.keepdims = bool(keepdims)

    def build(self, input_shape):
        require_map(self, input_shape)

    def call(self, x):
        return spatial_min(x, self.keepdims)

    def compute_output_shape(self, input_shape):
        batch, _, _, channels = input_shape
        return (batch, 1, 1, channels) if self.keepdims else (batch, channels)

    def get_config(self):
        return {**super().get_config(), "keepdims": self.keepdims}
