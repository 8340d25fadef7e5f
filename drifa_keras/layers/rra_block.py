"""Robust residual attention block: DRIFA-Net, Fig. 1C and Algorithm 1(a)."""

import math

import keras
from keras import ops

from drifa_keras.layers._packing import require_map
from drifa_keras.layers.mfa import MFA


@keras.saving.register_keras_serializable(package="drifa_keras")
class RRABlock(keras.layers.Layer):
    """Robust residual attention block: a ResNet basic block with `MFA` inside.

    ```
    x -> conv3x3(strides) - MFA - BN - ReLU - conv3x3 - MFA - BN -> + -> ReLU
    x -> itself, or conv1x1(strides) - BN where the shape changes  -> +
    ```

    Reference: Dhar et al., *Multimodal Fusion Learning with Dual Attention for
    Medical Imaging*, WACV 2025, Fig. 1C and Algorithm 1(a); batch normalisation and
    activation as in the released code.

    Args:
        filters: Channels of the output.
        strides: Stride of the first convolution and of the shortcut.
        mfa: `True`, `False` (a plain ResNet block) or a dict of arguments of `MFA`.
        norm_momentum: Momentum of the running statistics of batch normalisation.
        kernel_initializer: Initializer of the convolutions.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        x: Feature map of shape `(batch, height, width, channels)`.
        training: Whether batch normalisation uses the statistics of the batch.

    Returns:
        Map of shape `(batch, ceil(height / strides), ceil(width / strides),
        filters)`.
    """

    def __init__(
        self,
        filters,
        strides=1,
        mfa=True,
        norm_momentum=0.99,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        for name, value in (("filters", filters), ("strides", strides)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"`{name}` must be a positive integer. Received: {name}={value!r}."
                )
        self.filters = filters
        self.strides = strides
        self.mfa = dict(mfa) if isinstance(mfa, dict) else bool(mfa)
        self.norm_momentum = norm_momentum
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.conv1 = self._conv(3, strides, "conv1")
        self.mfa1 = self._attention("mfa1")
        self.norm1 = self._norm("norm1")
        self.conv2 = self._conv(3, 1, "conv2")
        self.mfa2 = self._attention("mfa2")
        self.norm2 = self._norm("norm2")
        self.shortcut_conv = self.shortcut_norm = None

    def _conv(self, kernel_size, strides, name):
        return keras.layers.Conv2D(
            self.filters,
            kernel_size,
            strides=strides,
            padding="same",
            data_format="channels_last",
            kernel_initializer=self.kernel_initializer.clone(),
            dtype=self.dtype_policy,
            name=name,
        )

    def _norm(self, name):
        return keras.layers.BatchNormalization(
            axis=-1,
            momentum=self.norm_momentum,
            dtype=self.dtype_policy,
            name=name,
        )

    def _attention(self, name):
        if self.mfa is False:
            return None
        arguments = self.mfa if isinstance(self.mfa, dict) else {}
        return MFA(**arguments, dtype=self.dtype_policy, name=name)

    def build(self, input_shape):
        require_map(self, input_shape)
        if self.strides != 1 or input_shape[-1] != self.filters:
            self.shortcut_conv = self._conv(1, self.strides, "shortcut_conv")
            self.shortcut_norm = self._norm("shortcut_norm")
        self.conv1.build(input_shape)
        inner_shape = self.conv1.compute_output_shape(input_shape)
        for layer in (self.mfa1, self.norm1, self.conv2, self.mfa2, self.norm2):
            if layer is not None:
                layer.build(inner_shape)
        if self.shortcut_conv is not None:
            self.shortcut_conv.build(input_shape)
            self.shortcut_norm.build(inner_shape)

    def call(self, x, training=None):
        shortcut = x
        if self.shortcut_conv is not None:
            shortcut = self.shortcut_norm(self.shortcut_conv(x), training=training)
        x = self.conv1(x)
        if self.mfa1 is not None:
            x = self.mfa1(x)
        x = ops.relu(self.norm1(x, training=training))
        x = self.conv2(x)
        if self.mfa2 is not None:
            x = self.mfa2(x)
        x = self.norm2(x, training=training)
        return ops.relu(x + shortcut)

    def compute_output_shape(self, input_shape):
        return self.conv1.compute_output_shape(input_shape)

    def multiply_adds(self, input_shape):
        """Multiply-adds for one sample of `input_shape` `(batch, H, W, C)`."""
        inner_shape = self.conv1.compute_output_shape(input_shape)
        convolutions = [self.conv1, self.conv2]
        if self.shortcut_conv is not None:
            convolutions.append(self.shortcut_conv)
        total = sum(math.prod(conv.kernel.shape) for conv in convolutions)
        total *= inner_shape[1] * inner_shape[2]
        if self.mfa1 is not None:
            total += 2 * self.mfa1.multiply_adds(inner_shape)
        return total

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "mfa": self.mfa,
            "norm_momentum": self.norm_momentum,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
