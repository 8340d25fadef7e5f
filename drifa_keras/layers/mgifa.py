"""Multimodal global information fusion attention: DRIFA-Net, Fig. 3 and Eq. 6."""

import keras
from keras import ops

from drifa_keras.layers._packing import (
    PackedKernelLayer,
    require_maps,
    require_presence,
    spatial_max,
    spatial_mean,
    spatial_min,
    sum_over_modalities,
)


@keras.saving.register_keras_serializable(package="drifa_keras")
class MGIFA(PackedKernelLayer):
    """Multimodal global information fusion attention.

    Sums what each pooling over the whole map finds in the modalities, passes each
    sum through a fully connected layer of its own, and adds:

    ```
    g = sum_p sigmoid(F_p sum_i G_p(x_i) + f_p)      p over max, mean, min
    ```

    With `presence` r, every sum over i becomes `m / (sum_i r_i) * sum_i r_i (...)`.

    Reference: Dhar et al., *Multimodal Fusion Learning with Dual Attention for
    Medical Imaging*, WACV 2025, Eq. 6 and Fig. 3b.

    Args:
        shared_fc: Whether one F serves the three poolings, as in the released
            code; in the paper each has its own.
        kernel_initializer: Initializer of each matrix.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: List of m >= 1 feature maps `(batch, height, width, channels)`.
        presence: 0/1 tensor `(batch, m)`; by default all are present.

    Returns:
        The descriptor `g` of shape `(batch, channels)`.

    Attributes:
        kernel: `(3, channels, channels)` in the order max, mean, min, or
            `(1, channels, channels)`.
        bias: `(3, channels)` or `(1, channels)`.
    """

    def __init__(self, shared_fc=False, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.shared_fc = bool(shared_fc)

    def build(self, input_shape):
        require_maps(self, input_shape)
        channels = input_shape[0][-1]
        self._add_matrices([(channels, channels)] * (1 if self.shared_fc else 3))

    def call(self, inputs, presence=None):
        require_presence(self, presence, len(inputs))
        pools = (
            [spatial_max(x) for x in inputs],
            [spatial_mean(x) for x in inputs],
            [spatial_min(x) for x in inputs],
        )
        pooled = ops.stack([sum_over_modalities(p, presence) for p in pools])
        # (3, batch, C) x (3 or 1, C, C)
        fused = ops.matmul(pooled, self.kernel) + self.bias[:, None, :]
        return ops.sum(ops.sigmoid(fused), axis=0)

    def compute_output_shape(self, input_shape):
        return (input_shape[0][0], input_shape[0][-1])

    def multiply_adds(self, input_shape):
        """Multiply-adds for one sample of m maps `(batch, H, W, C)`."""
        return 3 * input_shape[0][-1] ** 2

    def get_config(self):
        return {**super().get_config(), "shared_fc": self.shared_fc}
