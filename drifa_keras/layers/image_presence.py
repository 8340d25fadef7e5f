"""Which images of a multimodal batch are there at all."""

import keras
from keras import ops

from drifa_keras.layers._packing import require_list


@keras.saving.register_keras_serializable(package="drifa_keras")
class ImagePresence(keras.layers.Layer):
    """Tells which modalities are present: an absent image is all zeros.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`, such as `name`. The dtype is
            float32 unless given.

    Call arguments:
        inputs: List of m batches of images `(batch, height, width, channels)`, whose
            sizes and channels may differ.

    Returns:
        Tensor `(batch, m)` of 0 and 1. A sample whose images are all blank counts as
        complete, so that nothing is divided by zero.
    """

    def __init__(self, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)

    def build(self, input_shape):
        require_list(self, input_shape)

    def call(self, inputs):
        present = shown(inputs)
        nothing = ops.logical_not(ops.any(present, axis=1, keepdims=True))
        return ops.cast(ops.logical_or(present, nothing), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (input_shape[0][0], len(input_shape))

    def get_config(self):
        # Without an override Keras cannot serialize a dtype policy object.
        return super().get_config()


def shown(images):
    """Whether each image of some streams has a value other than 0, `(batch, m)`."""
    # The last axis first: on PyTorch, older Keras takes away one after the other.
    return ops.stack(
        [ops.any(ops.not_equal(x, 0), axis=(3, 2, 1)) for x in images], axis=1
    )
