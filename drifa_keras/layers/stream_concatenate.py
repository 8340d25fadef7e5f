"""The fused map of a multimodal network: Algorithm 1(d) of DRIFA-Net."""

import keras
from keras import ops

from drifa_keras.layers._packing import only_present, require_maps, require_presence


@keras.saving.register_keras_serializable(package="drifa_keras")
class StreamConcatenate(keras.layers.Layer):
    """Concatenates the channels of all streams; absent ones become zeros.

    Call arguments:
        inputs: List of m >= 1 feature maps `(batch, height, width, channels)` of
            equal shape, one a modality.
        presence: 0/1 tensor `(batch, m)`; by default all are present.

    Returns:
        Map of shape `(batch, height, width, m * channels)`.
    """

    def build(self, input_shape):
        require_maps(self, input_shape)

    def call(self, inputs, presence=None):
        require_presence(self, presence, len(inputs))
        return ops.concatenate(only_present(inputs, presence), axis=-1)

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape[0]
        return (batch, height, width, len(input_shape) * channels)

    def get_config(self):
        # Without an override Keras cannot serialize a dtype policy object.
        return super().get_config()
