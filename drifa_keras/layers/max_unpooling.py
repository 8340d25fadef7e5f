"""The way back from a max pooling: SegNet."""

import keras
from keras import ops

from drifa_keras.layers._packing import (
    require_list,
    require_presence,
    sum_over_modalities,
)


@keras.saving.register_keras_serializable(package="drifa_keras")
class MaxUnpooling2D(keras.layers.Layer):
    """Puts the values of a map back where the maxima of windows of 2x2 were.

    All other places are 0. With the places of several modalities the result is the
    mean over those that are present; with those of one, it is that of SegNet.

    Reference: Badrinarayanan et al., *SegNet: A Deep Convolutional Encoder-Decoder
    Architecture for Image Segmentation*, IEEE TPAMI 2017, Sec. 3. The mean over
    several modalities is ours.

    Call arguments:
        inputs: List of the map `(batch, height, width, channels)` and of m >= 1 maps
            of places `(batch, 2 * height, 2 * width, channels)`, bools as
            `MaxPoolingWithIndices2D` returns them, or their 0 and 1.
        presence: 0/1 tensor `(batch, m)`; by default all are present.

    Returns:
        Map of shape `(batch, 2 * height, 2 * width, channels)`.
    """

    def build(self, input_shape):
        require_list(self, input_shape)
        wanted = self.compute_output_shape(input_shape)[1:]
        if len(input_shape) < 2 or any(
            tuple(shape[1:]) != wanted for shape in input_shape[1:]
        ):
            shapes = ", ".join(str(tuple(shape[1:])) for shape in input_shape)
            raise ValueError(
                f"Layer {self.name!r} takes a map and one or more maps of places, "
                "twice as high and wide, with as many channels. Received: "
                f"{shapes}."
            )

    def call(self, inputs, presence=None):
        x, *places = inputs
        require_presence(self, presence, len(places))
        places = [ops.cast(where, x.dtype) for where in places]
        x = ops.repeat(ops.repeat(x, 2, axis=1), 2, axis=2)
        return x * (sum_over_modalities(places, presence) / len(places))

    def compute_output_shape(self, input_shape):
        batch, *sizes, channels = input_shape[0]
        twice = [None if size is None else 2 * size for size in sizes]
        return (batch, *twice, channels)

    def get_config(self):
        # Without an override Keras cannot serialize a dtype policy object.
        return super().get_config()
