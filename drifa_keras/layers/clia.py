"""Channel-wise local information attention: DRIFA-Net, Fig. 2 and Eq. 3."""

import keras
from keras import ops

from drifa_keras.layers._packing import (
    MapDescriptor,
    require_map,
    spatial_mean,
    unstack,
)


@keras.saving.register_keras_serializable(package="drifa_keras")
class CLIA(MapDescriptor):
    """Channel-wise local information attention.

    A 1x1 convolution pooled over the map, refined once more, with a skip
    connection around the refinement:

    ```
    v1 = GAP(sigmoid(V1 x + c1))
    v2 = sigmoid(V2 v1 + c2)
    l  = v1 + v2
    ```

    Reference: Dhar et al., *Multimodal Fusion Learning with Dual Attention for
    Medical Imaging*, WACV 2025, Eq. 3 and Fig. 2c.

    Args:
        kernel_initializer: Initializer of each of the two matrices.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        x: Feature map of shape `(batch, height, width, channels)`.

    Returns:
        The descriptor `l` of shape `(batch, channels)`.

    Attributes:
        kernel: `(2, channels, channels)`: V1 and V2.
        bias: `(2, channels)`: c1 and c2.
    """

    def build(self, input_shape):
        require_map(self, input_shape)
        channels = input_shape[-1]
        self._add_matrices([(channels, channels)] * 2)

    def describe(self, x, kernel, bias):
        w1, w2 = unstack(kernel)
        c1, c2 = unstack(bias)
        v1 = spatial_mean(ops.sigmoid(ops.matmul(x, w1) + c1))  # (batch, C)
        v2 = ops.sigmoid(ops.matmul(v1, w2) + c2)
        return v1 + v2

    def multiply_adds(self, input_shape):
        """Multiply-adds for one sample of `input_shape` `(batch, H, W, C)`."""
        _, height, width, channels = input_shape
        return (height * width + 1) * channels**2
