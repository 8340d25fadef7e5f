"""Channel attention: MAIL, Fig. 2E."""

import keras
from keras import ops

from drifa_keras.layers._mail import require_positive
from drifa_keras.layers._packing import (
    require_map,
    spatial_max,
    spatial_mean,
    stacked,
    unstack,
)
from drifa_keras.layers.attention_noise import AttentionNoise


@keras.saving.register_keras_serializable(package="drifa_keras")
class ChannelAttention(keras.layers.Layer):
    """Channel attention (CA) of MAIL.

    The sum of four global poolings, mean, maximum, minimum and sum, and the
    difference of three, pass through two fully connected layers:

    ```
    i  = (GMN + GAP + GMP + GSP) + (GMP - GAP - GMN) = 2 GMP + GSP
    se = sigmoid(g (W2 relu(W1 i + b1) + b2))
    ```

    GSP, the sum over the map, would grow with the size of the image; here it is the
    mean. The released code takes the sum, and begins with a random g, of either
    sign. With `noise_stddev`, `AttentionNoise` is added to W2 (...) + b2.

    Reference: Dhar et al., *Effective and Robust Multimodal Medical Image Analysis*,
    KDD 2026, Fig. 2E; poolings as in the released code.

    Args:
        reduction: W1 leads to channels / reduction units.
        released: Whether to take the form of the released code.
        noise_stddev: Standard deviation of the noise of Robust-MAIL, 0 for none.
        kernel_initializer: Initializer of W1 and of the transpose of W2.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        x: Feature map of shape `(batch, height, width, channels)`.

    Returns:
        The attention `se` of shape `(batch, 1, 1, channels)`.

    Attributes:
        kernel: `(2, channels, units)`: W1 and the transpose of W2.
        bias: b1 and b2, end to end in one vector.
        scale: g.
    """

    def __init__(
        self,
        reduction=4,
        released=False,
        noise_stddev=0.0,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        require_positive(reduction=reduction)
        self.reduction = reduction
        self.released = bool(released)
        self.noise_stddev = noise_stddev
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.noise = None
        if noise_stddev:
            self.noise = AttentionNoise(
                noise_stddev,
                released=released,
                learn_weight=not released,
                dtype=self.dtype_policy,
                name="noise",
            )

    def build(self, input_shape):
        require_map(self, input_shape)
        channels = input_shape[-1]
        self._units = max(1, channels // self.reduction)
        self.kernel = self.add_weight(
            shape=(2, channels, self._units),
            initializer=stacked(self.kernel_initializer, [(channels, self._units)] * 2),
            name="kernel",
        )
        self.bias = self.add_weight(
            shape=(self._units + channels,), initializer="zeros", name="bias"
        )
        self.scale = self.add_weight(
            shape=(),
            initializer="he_normal" if self.released else "ones",
            name="scale",
        )
        if self.noise is not None:
            self.noise.build((input_shape[0], channels))

    def call(self, x):
        w1, w2 = unstack(self.kernel)
        b1, b2 = ops.split(ops.convert_to_tensor(self.bias), [self._units])
        pooled = 2 * spatial_max(x) + (
            _spatial_sum(x) if self.released else spatial_mean(x)
        )  # (batch, C)
        logits = ops.matmul(ops.relu(ops.matmul(pooled, w1) + b1), ops.transpose(w2))
        logits = logits + b2
        if self.noise is not None:
            logits = self.noise(logits)
        return ops.expand_dims(ops.sigmoid(self.scale * logits), (1, 2))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], 1, 1, input_shape[-1])

    def multiply_adds(self, input_shape):
        """Multiply-adds for one sample of `input_shape` `(batch, H, W, C)`."""
        channels = input_shape[-1]
        return 2 * channels * max(1, channels // self.reduction)

    def get_config(self):
        return {
            **super().get_config(),
            "reduction": self.reduction,
            "released": self.released,
            "noise_stddev": self.noise_stddev,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def _spatial_sum(x):
    """Sum over height and width, accumulated in float32."""
    return ops.cast(ops.sum(ops.cast(x, "float32"), axis=(1, 2)), x.dtype)
