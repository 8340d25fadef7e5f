"""The co-attention of CAF."""

import keras
from keras import ops

from drifa_keras.layers import CrossModalAttention
from drifa_keras.layers._packing import only_present


@keras.saving.register_keras_serializable(package="drifa_keras")
class CoAttention(CrossModalAttention):
    """Adds to each modality what it finds in the others, from nothing on.

    ```
    x_i <- x_i + gamma_i y_i
    ```

    with the `y_i` of `CrossModalAttention` and `gamma_i` 0 at first, for mutual
    guidance as in the co-attention block of CAF.

    Reference: He et al., *Co-Attention Fusion Network for Multimodal Skin Cancer
    Diagnosis*, Pattern Recognition 133, 2023, as its abstract has it; the formula is
    an adaptation.

    Args:
        **kwargs: Arguments of `CrossModalAttention`.

    Call arguments:
        inputs: As for `CrossModalAttention`.
        presence: As for `CrossModalAttention`.

    Returns:
        List of m maps of the shapes of the inputs.

    Attributes:
        gamma: `(m,)`.
    """

    def build(self, input_shape):
        super().build(input_shape)
        self.gamma = self.add_weight(
            shape=(len(input_shape),), initializer="zeros", name="gamma"
        )

    def call(self, inputs, presence=None):
        found = super().call(inputs, presence=presence)
        gamma = ops.unstack(ops.convert_to_tensor(self.gamma))
        guided = [x + g * y for x, g, y in zip(inputs, gamma, found, strict=True)]
        return only_present(guided, presence)
