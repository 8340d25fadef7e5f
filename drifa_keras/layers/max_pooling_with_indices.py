"""Max pooling that remembers where the maxima were: SegNet."""

import keras
from keras import ops

from drifa_keras.layers._packing import require_map


@keras.saving.register_keras_serializable(package="drifa_keras")
class MaxPoolingWithIndices2D(keras.layers.Layer):
    """Max pooling over windows of 2x2, with the place of each maximum.

    `MaxUnpooling2D` puts values back at these places. Of equal values the first one,
    row by row, counts, and gets the whole gradient.

    Reference: Badrinarayanan et al., *SegNet: A Deep Convolutional Encoder-Decoder
    Architecture for Image Segmentation*, IEEE TPAMI 2017, Sec. 3.

    Call arguments:
        x: Feature map of shape `(batch, height, width, channels)` of even height and
            width.

    Returns:
        List of the maxima `(batch, height / 2, width / 2, channels)`, and of a map of
        the shape of `x`, of bools, true at the place of each maximum alone.
    """

    def build(self, input_shape):
        require_map(self, input_shape)
        if any(size is not None and size % 2 for size in input_shape[1:3]):
            raise ValueError(
                f"Layer {self.name!r} pools windows of 2x2, for which height and width "
                f"have to be even. Received: input shape {tuple(input_shape)}. Use "
                "images whose sides can be halved once for each pooling."
            )

    def call(self, x):
        batch, height, width, channels = ops.shape(x)
        rows, columns = height // 2, width // 2
        windows = ops.reshape(x, (batch, rows, 2, columns, 2, channels))
        windows = ops.transpose(windows, (0, 1, 3, 5, 2, 4))
        windows = ops.reshape(windows, (batch, rows, columns, channels, 4))
        # Through the place, so that equal values do not share the gradient.
        places = ops.one_hot(ops.argmax(windows, axis=-1), 4, dtype=windows.dtype)
        maxima = ops.sum(windows * places, axis=-1)
        places = ops.cast(places, "bool")
        places = ops.reshape(places, (batch, rows, columns, channels, 2, 2))
        places = ops.transpose(places, (0, 1, 4, 2, 5, 3))
        return [maxima, ops.reshape(places, (batch, height, width, channels))]

    def compute_output_shape(self, input_shape):
        batch, *sizes, channels = input_shape
        halves = [None if size is None else size // 2 for size in sizes]
        return [(batch, *halves, channels), tuple(input_shape)]

    def compute_output_spec(self, x):
        maxima, places = self.compute_output_shape(x.shape)
        return [
            keras.KerasTensor(maxima, self.compute_dtype),
            keras.KerasTensor(places, "bool"),
        ]

    def get_config(self):
        # Without an override Keras cannot serialize a dtype policy object.
        return super().get_config()
