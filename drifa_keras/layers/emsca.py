"""Efficient multimodal spatial cross attention: MAIL, Fig. 3B."""

import keras
from keras import ops

from drifa_keras.layers._packing import (
    require_maps,
    require_presence,
    spatial_max,
    spatial_mean,
    sum_over_modalities,
)
from drifa_keras.layers.msgdc import MSGDC


@keras.saving.register_keras_serializable(package="drifa_keras")
class EMSCA(keras.layers.Layer):
    """Efficient multimodal spatial cross attention.

    One `MSGDC`, M, without biases and normalisation, describes all modalities, and
    each description then takes up the others:

    ```
    s_i  = GMP(M(x_i)) + GAP(M(x_i))
    t_i  = GMP(M(s_i)) + GAP(M(s_i)) = 2 M(s_i)
    s'_i = s_i + t_i + sum_{j != i} s_j
    A_s  = sigmoid(sum_i w_i s'_i)
    ```

    w_i holds one number per channel and starts at 1. In the released code the later
    modalities see what the earlier ones have become: s'_j stands for s_j where j < i.
    With `presence` r, every sum over modalities becomes `m / (sum_i r_i) * sum_i r_i
    (...)`. "Spatial" is the paper's word; A_s has no extent in space.

    Reference: Dhar et al., *Effective and Robust Multimodal Medical Image Analysis*,
    KDD 2026, Fig. 3B; equations as in the released code.

    Args:
        groups: Number of groups of `MSGDC`.
        released: Whether to take the form of the released code.
        random_ratio: Share of random filters of M, from 0 (MAIL) to below 1. One draw
            serves all that M does in a call.
        kernel_initializer: Initializer of `MSGDC`.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: List of m >= 1 feature maps `(batch, height, width, channels)` of
            equal shape, one a modality, with a multiple of `groups` channels.
        presence: 0/1 tensor `(batch, m)`; by default all are present.

    Returns:
        The attention `A_s` of shape `(batch, 1, 1, channels)`.

    Attributes:
        msgdc: M.
        scales: w, `(m, channels)`.
    """

    def __init__(
        self,
        groups=16,
        released=False,
        random_ratio=0.0,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.groups = groups
        self.released = bool(released)
        self.random_ratio = random_ratio
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.msgdc = None

    def build(self, input_shape):
        require_maps(self, input_shape)
        channels = input_shape[0][-1]
        self.msgdc = MSGDC(
            channels,
            groups=self.groups,
            fuse_groups=1,
            normalization=None,
            random_ratio=self.random_ratio,
            kernel_initializer=self.kernel_initializer.clone(),
            dtype=self.dtype_policy,
            name="msgdc",
        )
        self.msgdc.build(input_shape[0])
        self.scales = self.add_weight(
            shape=(len(input_shape), channels), initializer="ones", name="scales"
        )

    def call(self, inputs, presence=None):
        require_presence(self, presence, len(inputs))
        kernels = self.msgdc.draw_kernels()
        described = [self._describe(x, kernels) for x in inputs]
        refined = ops.split(
            self._describe(ops.concatenate(described, axis=0), kernels),
            len(inputs),
            axis=0,
        )
        # s_i + sum_{j != i} s_j is the sum over all.
        seen, crossed = list(described), []
        for index, t in enumerate(refined):
            crossed.append(t + sum_over_modalities(seen, presence))
            if self.released:
                seen[index] = crossed[index]
        weighted = [s * self.scales[index] for index, s in enumerate(crossed)]
        return ops.sigmoid(sum_over_modalities(weighted, presence))

    def _describe(self, x, kernels):
        y = self.msgdc.convolve(x, kernels)
        return spatial_max(y, keepdims=True) + spatial_mean(y, keepdims=True)

    def compute_output_shape(self, input_shape):
        batch, _, _, channels = input_shape[0]
        return (batch, 1, 1, channels)

    def multiply_adds(self, input_shape):
        """Multiply-adds for one sample of m maps `(batch, H, W, C)`."""
        batch, _, _, channels = input_shape[0]
        return len(input_shape) * (
            self.msgdc.multiply_adds(input_shape[0])
            + self.msgdc.multiply_adds((batch, 1, 1, channels))
        )

    def get_config(self):
        return {
            **super().get_config(),
            "groups": self.groups,
            "released": self.released,
            "random_ratio": self.random_ratio,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
