"""The last step behind several heads of one task."""

import keras
from keras import ops

from drifa_keras.layers import TemperatureSoftmax


@keras.saving.register_keras_serializable(package="drifa_keras")
class CombinedSoftmax(TemperatureSoftmax):
    """A `TemperatureSoftmax` behind `CombinedLogits`.

    In training it returns the geometric mean of the heads as it is. That sums to less
    than 1, and the less the more the heads disagree.

    Call arguments:
        logits: What `CombinedLogits` returns; in training nothing above 0.
        training: Whether that was in training.

    Returns:
        Tensor of the shape of `logits`.
    """

    def call(self, logits, training=False):
        if training:
            return ops.exp(ops.minimum(logits, 0.0))
        return super().call(logits)
