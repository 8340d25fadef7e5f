"""EMILA, the attention of MAIL's residual blocks: MAIL, Fig. 2D."""

import keras
from keras import ops

from drifa_keras.layers._mail import PointwiseConv2D
from drifa_keras.layers._packing import require_map
from drifa_keras.layers.attention_noise import AttentionNoise
from drifa_keras.layers.channel_attention import ChannelAttention
from drifa_keras.layers.msgdc import MSGDC


@keras.saving.register_keras_serializable(package="drifa_keras")
class EMILA(keras.layers.Layer):
    """EMILA: multi-scale features, gated by channel, on top of a projection.

    ```
    u = MSGDC(x)
    y = relu(BN(conv1x1(x)) + u * ChannelAttention(u))
    ```

    Robust-MAIL draws a share of the filters of `MSGDC`, normalises each of its
    branches, and adds `AttentionNoise` n_c inside `ChannelAttention` and n_s to y.
    The released code of Robust-MAIL ends otherwise, without the sum of y:

    ```
    y = u * (clip(y + n_s, 0, 1) * ChannelAttention(u))**3
    ```

    Reference: Dhar et al., *Effective and Robust Multimodal Medical Image Analysis*,
    KDD 2026, Fig. 2D and 4C-E.

    Args:
        filters: Channels of the output, a multiple of `groups`.
        strides: Stride of `MSGDC` and of the projection.
        groups: Number of groups of `MSGDC`.
        released: Whether to take the form of the released code, here, in
            `ChannelAttention` and in `AttentionNoise`, and its biases in front of
            batch normalisation, which takes them off again.
        random_ratio: Share of random filters, from 0 (MAIL) to below 1.
        noise_stddev: Standard deviation of the noise, 0 (MAIL) for none.
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
        self.msgdc = MSGDC(
            filters,
            strides=strides,
            groups=groups,
            normalization="all" if random_ratio or noise_stddev else "output",
            use_bias=self.released,
            random_ratio=random_ratio,
            norm_momentum=norm_momentum,
            kernel_initializer=self.kernel_initializer.clone(),
            dtype=self.dtype_policy,
            name="msgdc",
        )
        self.attention = ChannelAttention(
            released=released,
            noise_stddev=noise_stddev,
            kernel_initializer=self.kernel_initializer.clone(),
            dtype=self.dtype_policy,
            name="attention",
        )
        self.projection = PointwiseConv2D(
            filters,
            1,
            strides=strides,
            padding="same",
            data_format="channels_last",
            use_bias=self.released,
            kernel_initializer=self.kernel_initializer.clone(),
            dtype=self.dtype_policy,
            name="projection",
        )
        self.norm = keras.layers.BatchNormalization(
            axis=-1, momentum=norm_momentum, dtype=self.dtype_policy, name="norm"
        )
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
        output_shape = self.compute_output_shape(input_shape)
        self.msgdc.build(input_shape)
        self.attention.build(output_shape)
        self.projection.build(input_shape)
        self.norm.build(output_shape)
        if self.noise is not None:
            self.noise.build(output_shape)

    def call(self, x, training=None):
        u = self.msgdc(x, training=training)
        se = self.attention(u)
        y = ops.relu(self.norm(self.projection(x), training=training) + u * se)
        if self.noise is None:
            return y
        y = self.noise(y)
        if not self.released:
            return y
        gate = y * se
        return u * gate * gate * gate

    def compute_output_shape(self, input_shape):
        return self.msgdc.compute_output_shape(input_shape)

    def multiply_adds(self, input_shape):
        """Multiply-adds for one sample of `input_shape` `(batch, H, W, C)`."""
        output_shape = self.compute_output_shape(input_shape)
        _, height, width, _ = output_shape
        return (
            self.msgdc.multiply_adds(input_shape)
            + self.attention.multiply_adds(output_shape)
            + height * width * input_shape[-1] * self.filters
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
