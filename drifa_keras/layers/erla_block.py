"""Efficient residual learning attention block: MAIL, Fig. 2C."""

import keras
from keras import ops

from drifa_keras.layers._mail import PointwiseConv2D
from drifa_keras.layers._packing import require_map
from drifa_keras.layers.emila import EMILA


@keras.saving.register_keras_serializable(package="drifa_keras")
class ERLABlock(keras.layers.Layer):
    """Efficient residual learning attention block, in place of a ResNet basic block.

    ```
    x -> EMILA(strides) - BN - ReLU - EMILA - conv1x1 - BN -> + -> ReLU
    x -> itself, or conv1x1(strides) - BN where the shape changes -> +
    ```

    Reference: Dhar et al., *Effective and Robust Multimodal Medical Image Analysis*,
    KDD 2026, Fig. 2C; layers as in the released code.

    Args:
        filters: Channels of the output, a multiple of `groups`.
        strides: Stride of the first `EMILA` and of the shortcut.
        groups: Number of groups of `MSGDC`.
        released: Whether to take the form of the released code; see `EMILA`.
        random_ratio: Share of random filters, from 0 (MAIL) to below 1.
        noise_stddev: Standard deviation of `AttentionNoise`, 0 (MAIL) for none.
        norm_momentum: Momentum of the running statistics of batch normalisation.
        kernel_initializer: Initializer of the convolutions and of the attention.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        x: Feature map of shape `(batch, height, width, channels)`, with a multiple of
            `groups` channels.
        training: Whether batch normalisation uses the statistics of the batch.

    Returns:
        Map of shape `(batch, ceil(height / strides), ceil(width / strides),
        filters)`.
    """

    def __init__(
        self,
        filters,
        strides=1,
        groups=16,
        released=False,
        random_ratio=0.0,
        noise_stddev=0.0,
        norm_momentum=0.99,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.strides = strides
        self.groups = groups
        self.released = bool(released)
        self.random_ratio = random_ratio
        self.noise_stddev = noise_stddev
        self.norm_momentum = norm_momentum
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.emila1 = self._emila(strides, "emila1")
        self.norm1 = self._norm("norm1")
        self.emila2 = self._emila(1, "emila2")
        self.conv = self._conv(1, "conv")
        self.norm2 = self._norm("norm2")
        self.shortcut_conv = self.shortcut_norm = None

    def _emila(self, strides, name):
        return EMILA(
            self.filters,
            strides=strides,
            groups=self.groups,
            released=self.released,
            random_ratio=self.random_ratio,
            noise_stddev=self.noise_stddev,
            norm_momentum=self.norm_momentum,
            kernel_initializer=self.kernel_initializer.clone(),
            dtype=self.dtype_policy,
            name=name,
        )

    def _conv(self, strides, name):
        return PointwiseConv2D(
            self.filters,
            1,
            strides=strides,
            padding="same",
            data_format="channels_last",
            use_bias=self.released,
            kernel_initializer=self.kernel_initializer.clone(),
            dtype=self.dtype_policy,
            name=name,
        )

    def _norm(self, name):
        return keras.layers.BatchNormalization(
            axis=-1, momentum=self.norm_momentum, dtype=self.dtype_policy, name=name
        )

    def build(self, input_shape):
        require_map(self, input_shape)
        if self.strides != 1 or input_shape[-1] != self.filters:
            self.shortcut_conv = self._conv(self.strides, "shortcut_conv")
            self.shortcut_norm = self._norm("shortcut_norm")
        self.emila1.build(input_shape)
        inner_shape = self.emila1.compute_output_shape(input_shape)
        for layer in (self.norm1, self.emila2, self.conv, self.norm2):
            layer.build(inner_shape)
        if self.shortcut_conv is not None:
            self.shortcut_conv.build(input_shape)
            self.shortcut_norm.build(inner_shape)

    def call(self, x, training=None):
        shortcut = x
        if self.shortcut_conv is not None:
            shortcut = self.shortcut_norm(self.shortcut_conv(x), training=training)
        x = self.emila1(x, training=training)
        x = ops.relu(self.norm1(x, training=training))
        x = self.emila2(x, training=training)
        x = self.norm2(self.conv(x), training=training)
        return ops.relu(x + shortcut)

    def compute_output_shape(self, input_shape):
        return self.emila1.compute_output_shape(input_shape)

    def multiply_adds(self, input_shape):
        """Multiply-adds for one sample of `input_shape` `(batch, H, W, C)`."""
        inner_shape = self.emila1.compute_output_shape(input_shape)
        rows = self.filters
        if self.shortcut_conv is not None:
            rows += input_shape[-1]
        convolutions = inner_shape[1] * inner_shape[2] * rows * self.filters
        return (
            self.emila1.multiply_adds(input_shape)
            + self.emila2.multiply_adds(inner_shape)
            + convolutions
        )

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "groups": self.groups,
            "released": self.released,
            "random_ratio": self.random_ratio,
            "noise_stddev": self.noise_stddev,
            "norm_momentum": self.norm_momentum,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
