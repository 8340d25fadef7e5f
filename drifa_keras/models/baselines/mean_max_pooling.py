"""Mean and maximum over a map, side by side."""

import keras
from keras import ops

from drifa_keras.layers._packing import require_map, spatial_max, spatial_mean


@keras.saving.register_keras_serializable(package="drifa_keras")
class MeanMaxPooling2D(keras.layers.Layer):
    """Mean and maximum over height and width, as a map of one cell.

    Call arguments:
        x: Feature map of shape `(batch, height, width, channels)`.

    Returns:
        Map of shape `(batch, 1, 1, 2 * channels)`, the means first.
    """

    def build(self, input_shape):
        require_map(self, input_shape)

    def call(self, x):
        pooled = [spatial_mean(x, keepdims=True), spatial_max(x, keepdims=True)]
        return ops.concatenate(pooled, axis=-1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], 1, 1, 2 * input_shape[-1])

    def get_config(self):
        # Without an override Keras cannot serialize a dtype policy object.
        return super().get_config()
