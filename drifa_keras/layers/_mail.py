"""Shared helpers of the layers of MAIL and Robust-MAIL."""

import keras
from keras import ops

from drifa_keras.layers._packing import require_map
from drifa_keras.layers.randomness import DrawGenerator


def require_positive(**values):
    """Raises a `ValueError` unless all values are positive integers."""
    for name, value in values.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(
                f"`{name}` must be a positive integer. Received: {name}={value!r}."
            )


def require_groups(layer, groups, **channels):
    """Raises a `ValueError` unless `groups` divides every number of channels."""
    for name, count in channels.items():
        if count % groups:
            raise ValueError(
                f"Layer {layer.name!r} splits its {name} into {groups} groups, which "
                f"does not go into {count}. Use a multiple of {groups}, or a number "
                "of groups that divides it."
            )


def block_diagonal(kernel, groups):
    """Turns the kernel of a grouped convolution into that of a plain one.

    Grouped 1x1 convolutions are slow on CPUs; the zeros between the groups cost less.

    Args:
        kernel: Tensor `(..., channels / groups, filters)`.
        groups: Number of groups.

    Returns:
        Tensor `(..., channels, filters)`.
    """
    if groups == 1:
        return kernel
    *window, rows, filters = kernel.shape
    blocks = ops.reshape(kernel, (*window, 1, rows, groups, filters // groups))
    own = ops.reshape(ops.eye(groups, dtype=kernel.dtype), (groups, 1, groups, 1))
    return ops.reshape(blocks * own, (*window, groups * rows, filters))


def pointwise_conv(x, kernel, strides):
    """A 1x1 convolution with 'same' padding as a product, which CPUs do faster.

    Args:
        x: Map `(batch, height, width, channels)`.
        kernel: Tensor `(channels, filters)`.
        strides: Stride along height and width.
    """
    if strides > 1:
        x = x[:, ::strides, ::strides]
    return ops.matmul(x, kernel)


class PointwiseConv2D(keras.layers.Conv2D):
    """A 1x1 convolution with 'same' padding, computed by `pointwise_conv`."""

    def convolution_op(self, inputs, kernel):
        return pointwise_conv(inputs, kernel[0, 0], self.strides[0])


def strided_shape(input_shape, strides, filters):
    """Shape of the output of a convolution with 'same' padding."""
    batch, *sizes, _ = input_shape
    sizes = [None if size is None else -(-size // strides) for size in sizes]
    return (batch, *sizes, filters)


class RandomProjectionLayer(keras.layers.Layer):
    """A convolution of which some filters are drawn anew in every call.

    A subclass adds its trained filters as `kernel`.

    Args:
        kernel_size: Side of the kernels, r.
        strides: Stride along height and width; the padding is 'same'.
        random_ratio: Share of the filters that is drawn, from 0 to below 1.
        use_bias: Whether to add a bias to every channel.
        kernel_initializer: Initializer of the trained filters.
        seed: Integer seed of the draws.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(
        self,
        kernel_size,
        strides=1,
        random_ratio=0.25,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        require_positive(kernel_size=kernel_size, strides=strides)
        if not 0 <= random_ratio < 1:
            raise ValueError(
                "`random_ratio` must be at least 0 and below 1: some filters have to "
                f"be trained. Received: random_ratio={random_ratio!r}."
            )
        self.kernel_size = kernel_size
        self.strides = strides
        self.random_ratio = random_ratio
        self.use_bias = bool(use_bias)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.seed = seed
        if random_ratio:
            self.draws = DrawGenerator(seed)

    def build(self, input_shape):
        require_map(self, input_shape)
        self.bias = None
        if self.use_bias:
            channels = self.compute_output_shape(input_shape)[-1]
            self.bias = self.add_weight(
                shape=(channels,), initializer="zeros", name="bias"
            )

    def call(self, x):
        return self.convolve(x, self.draw_kernel())

    def _random_filters(self, filters):
        """How many of `filters` are drawn; neither none nor all where some should."""
        count = round(self.random_ratio * filters)
        if self.random_ratio and count in (0, filters):
            raise ValueError(
                f"Layer {self.name!r} draws random_ratio={self.random_ratio} of "
                f"{filters} filters, which is {'all' if count else 'none'} of them. "
                "Use more filters (a group), or another ratio."
            )
        return count

    def _with_random_filters(self, trained, count, axis):
        """Appends `count` filters of N(0, 1 / r**2) to the trained ones."""
        if not count:
            return trained
        shape = list(trained.shape)
        shape[axis] = count
        drawn = keras.random.normal(
            shape, stddev=1 / self.kernel_size, dtype="float32", seed=self.draws
        )
        return ops.concatenate([trained, ops.cast(drawn, trained.dtype)], axis=axis)

    def _with_bias(self, x):
        return x if self.bias is None else x + self.bias

    def get_config(self):
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "random_ratio": self.random_ratio,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "seed": self.seed,
        }
