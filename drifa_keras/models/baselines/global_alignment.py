"""GLoRIA's global representations and their contrast."""

import keras
from keras import ops

from drifa_keras.layers._packing import require_maps, require_presence
from drifa_keras.models.baselines.contrast import contrast, unit

_SCALE = 10.0


@keras.saving.register_keras_serializable(package="drifa_keras")
class GlobalAlignment(keras.layers.Layer):
    """Returns its inputs, and adds the global contrastive loss of GLoRIA in training.

    The similarity of sample b of one modality and sample r of another is
    `10 cos(v_b, v_r)`; the loss is the cross-entropy of its rows with that of its
    columns, averaged over all pairs of modalities.

    Reference: Huang et al., *GLoRIA*, ICCV 2021, Sec. 3.3, and
    github.com/marshuang80/gloria.

    Args:
        weight: Weight of the loss.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: List of m >= 2 descriptors as maps `(batch, 1, 1, channels)`.
        presence: 0/1 tensor `(batch, m)`; by default all are present. A sample with
            either absent takes no part in the loss of a pair.
        training: Whether the loss is added.

    Returns:
        The inputs.
    """

    def __init__(self, weight=1.0, **kwargs):
        super().__init__(**kwargs)
        self.weight = weight

    def build(self, input_shape):
        require_maps(self, input_shape)
        if len(input_shape) < 2 or tuple(input_shape[0][1:3]) != (1, 1):
            raise ValueError(
                f"Layer {self.name!r} takes at least two descriptors of shape (batch, "
                f"1, 1, channels). Received: {[tuple(shape) for shape in input_shape]}."
            )

    def call(self, inputs, presence=None, training=False):
        require_presence(self, presence, len(inputs))
        if training and self.weight:
            self.add_loss(self.weight * self._loss(inputs, presence))
        return list(inputs)

    def _loss(self, inputs, presence):
        vectors = [unit(ops.cast(x[:, 0, 0, :], "float32")) for x in inputs]
        losses = []
        for j, second in enumerate(vectors):
            for i, first in enumerate(vectors[:j]):
                both = None
                if presence is not None:
                    both = ops.cast(presence[:, i] * presence[:, j], "float32")
                cosine = ops.matmul(first, ops.transpose(second))
                losses.append(contrast(_SCALE * cosine, both))
        return sum(losses) / len(losses)

    def compute_output_shape(self, input_shape):
        return [tuple(shape) for shape in input_shape]

    def get_config(self):
        return {**super().get_config(), "weight": self.weight}
