"""Training a network to do without a modality."""

import keras
from keras import ops

from drifa_keras.layers._packing import require_list
from drifa_keras.layers.image_presence import shown


@keras.saving.register_keras_serializable(package="drifa_keras")
class ModalityDropout(keras.layers.Layer):
    """Blanks whole modalities at random in training.

    Each image of a sample becomes all zeros, the sign of an absent modality, with
    probability `rate`. Of the images that were there at least one stays: where all
    would go, the sample is left as it was. At inference nothing changes. It is no
    subclass of `Dropout`: a Monte-Carlo pass does not blank modalities.

    Args:
        rate: Probability with which a modality is blanked, from 0 to below 1.
        seed: Integer seed.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: List of m batches of images `(batch, height, width, channels)`.
        training: Whether to blank.

    Returns:
        List of m batches of images.
    """

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(
                "`rate` must be at least 0 and below 1: one modality has to stay. "
                f"Received: rate={rate!r}."
            )
        self.rate = rate
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        require_list(self, input_shape)

    def call(self, inputs, training=False):
        if not training or self.rate == 0:
            return list(inputs)
        batch = ops.shape(inputs[0])[0]
        draw = keras.random.uniform((batch, len(inputs)), seed=self.seed_generator)
        kept = ops.logical_and(ops.greater_equal(draw, self.rate), shown(inputs))
        # Where all that were there would go, keep them all.
        nothing = ops.logical_not(ops.any(kept, axis=1, keepdims=True))
        kept = ops.logical_or(kept, nothing)
        return [
            ops.where(kept[:, index][:, None, None, None], x, ops.zeros_like(x))
            for index, x in enumerate(inputs)
        ]

    def compute_output_shape(self, input_shape):
        return [tuple(shape) for shape in input_shape]

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
