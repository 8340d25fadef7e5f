"""Where a token lies, and of which modality it is."""

import keras

from drifa_keras.layers._packing import require_maps


@keras.saving.register_keras_serializable(package="drifa_keras")
class ModalityEmbedding(keras.layers.Layer):
    """Adds a learned vector for each cell, and one for each modality.

    Args:
        embeddings_initializer: Initializer of both, of small random numbers by
            default, as in vision Transformers.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: List of m maps `(batch, height, width, channels)` of equal shape and
            known size, one a modality.

    Returns:
        List of m maps of that shape.

    Attributes:
        position: `(height, width, channels)`.
        modality: `(m, channels)`.
    """

    def __init__(self, embeddings_initializer=None, **kwargs):
        super().__init__(**kwargs)
        self.embeddings_initializer = keras.initializers.get(
            keras.initializers.TruncatedNormal(stddev=0.02)
            if embeddings_initializer is None
            else embeddings_initializer
        )

    def build(self, input_shape):
        require_maps(self, input_shape)
        size = tuple(input_shape[0][1:])
        if None in size:
            raise ValueError(
                f"Layer {self.name!r} learns a vector for each cell, and takes maps of "
                f"known size. Received: shape {tuple(input_shape[0])}."
            )
        self.position = self.add_weight(
            shape=size, initializer=self.embeddings_initializer.clone(), name="position"
        )
        self.modality = self.add_weight(
            shape=(len(input_shape), size[-1]),
            initializer=self.embeddings_initializer.clone(),
            name="modality",
        )

    def call(self, inputs):
        return [
            x + (self.position + self.modality[index]) for index, x in enumerate(inputs)
        ]

    def compute_output_shape(self, input_shape):
        return [tuple(shape) for shape in input_shape]

    def multiply_adds(self, input_shape):
        """None: vectors are added."""
        return 0

    def get_config(self):
        return {
            **super().get_config(),
            "embeddings_initializer": keras.initializers.serialize(
                self.embeddings_initializer
            ),
        }
