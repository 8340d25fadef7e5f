"""The attention fusion of CAF."""

import math

import keras
from keras import ops

from drifa_keras.layers._packing import only_present, require_maps, require_presence


@keras.saving.register_keras_serializable(package="drifa_keras")
class AttentionFusion(keras.layers.Layer):
    """Mixes the modalities pixel by pixel, in a ratio that it works out.

    ```
    [r_1..r_m] = softmax over the modalities of conv3x3([x_1..x_m])
    F          = sum_i r_i x_i
    ```

    Reference: He et al., *Co-Attention Fusion Network for Multimodal Skin Cancer
    Diagnosis*, Pattern Recognition 133, 2023, as its abstract has it; the formula is
    an adaptation.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: List of m feature maps `(batch, height, width, channels)` of equal
            shape.
        presence: 0/1 tensor `(batch, m)`; by default all are present. An absent
            modality counts as zeros in the convolution, and has no ratio.

    Returns:
        Map of the shape of one input.
    """

    def build(self, input_shape):
        require_maps(self, input_shape)
        count, (*_, channels) = len(input_shape), input_shape[0]
        self.conv = keras.layers.Conv2D(
            count,
            3,
            padding="same",
            data_format="channels_last",
            dtype=self.dtype_policy,
            name="conv",
        )
        self.conv.build((*input_shape[0][:3], count * channels))

    def call(self, inputs, presence=None):
        require_presence(self, presence, len(inputs))
        inputs = only_present(inputs, presence)
        scores = ops.cast(self.conv(ops.concatenate(inputs, axis=-1)), "float32")
        if presence is not None:
            scores = ops.where(presence[:, None, None, :] > 0, scores, -1e30)
        ratios = ops.cast(ops.softmax(scores, axis=-1), inputs[0].dtype)
        return sum(ratios[..., i : i + 1] * x for i, x in enumerate(inputs))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[0])

    def multiply_adds(self, input_shape):
        """Multiply-adds for one sample of m maps `(batch, H, W, C)`."""
        height, width = input_shape[0][1:3]
        return math.prod(self.conv.kernel.shape) * height * width

    def get_config(self):
        # Without an override Keras cannot serialize a dtype policy object.
        return super().get_config()
