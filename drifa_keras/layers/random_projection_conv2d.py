"""Random projection filters: Robust-MAIL, Fig. 4E."""

import math

import keras
from keras import ops

from drifa_keras.layers._mail import (
    RandomProjectionLayer,
    block_diagonal,
    pointwise_conv,
    require_groups,
    require_positive,
    strided_shape,
)


@keras.saving.register_keras_serializable(package="drifa_keras")
class RandomProjectionConv2D(RandomProjectionLayer):
    """A (grouped) convolution some filters of which are random in every call.

    In each group the last `round(random_ratio * filters / groups)` filters are not
    trained: their weights are drawn from N(0, 1 / r**2), with r the kernel size, anew
    in every call, in training and at inference. `freeze_randomness` holds the draw.
    Padding is 'same'.

    Reference: Dhar et al., *Effective and Robust Multimodal Medical Image Analysis*,
    KDD 2026, Fig. 4E; Dong and Xu, *Adversarial Robustness via Random Projection
    Filters*, CVPR 2023. The released network of Robust-MAIL holds no such filters.

    Args:
        filters: Number of filters, trained and random.
        kernel_size: Side of the kernels, r.
        strides: Stride along height and width.
        groups: Number of groups of channels that are convolved each on its own.
        random_ratio: Share of the filters that is random, from 0 (none) to below 1.
        use_bias: Whether to add a trained bias to every channel.
        kernel_initializer: Initializer of the trained filters.
        seed: Integer seed of the draws.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        x: Feature map of shape `(batch, height, width, channels)`.

    Returns:
        Map of shape `(batch, ceil(height / strides), ceil(width / strides),
        filters)`.

    Attributes:
        kernel: The trained filters, `(r, r, channels / groups, trained)`, group after
            group.
        bias: `(filters,)`, or `None`.
    """

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        groups=1,
        random_ratio=0.25,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        seed=None,
        **kwargs,
    ):
        super().__init__(
            kernel_size,
            strides=strides,
            random_ratio=random_ratio,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            seed=seed,
            **kwargs,
        )
        require_positive(filters=filters, groups=groups)
        self.filters = filters
        self.groups = groups

    def build(self, input_shape):
        super().build(input_shape)
        channels = input_shape[-1]
        require_groups(self, self.groups, channels=channels, filters=self.filters)
        filters = self.filters // self.groups
        self._random = self._random_filters(filters)
        self.kernel = self.add_weight(
            shape=(
                self.kernel_size,
                self.kernel_size,
                channels // self.groups,
                self.groups * (filters - self._random),
            ),
            initializer=self.kernel_initializer,
            name="kernel",
        )

    def draw_kernel(self):
        """Draws the random filters and returns the kernel `(r, r, channels, filters)`.

        Between groups it is zero.
        """
        return block_diagonal(self.draw_grouped_kernel(), self.groups)

    def draw_grouped_kernel(self):
        """As `draw_kernel`, without the zeros: `(r, r, channels / groups, filters)`."""
        kernel = ops.convert_to_tensor(self.kernel)
        *window, _ = kernel.shape
        # (r, r, channels / groups, groups, filters / groups)
        kernel = ops.reshape(kernel, (*window, self.groups, -1))
        kernel = self._with_random_filters(kernel, self._random, axis=-1)
        return ops.reshape(kernel, (*window, self.filters))

    def convolve(self, x, kernel):
        """Convolves `x` with what `draw_kernel` returned."""
        if self.kernel_size == 1:
            y = pointwise_conv(x, kernel[0, 0], self.strides)
        else:
            y = ops.conv(x, kernel, self.strides, "same", data_format="channels_last")
        return self._with_bias(y)

    def compute_output_shape(self, input_shape):
        return strided_shape(input_shape, self.strides, self.filters)

    def multiply_adds(self, input_shape):
        """Multiply-adds for one sample of `input_shape` `(batch, H, W, C)`."""
        _, height, width, _ = self.compute_output_shape(input_shape)
        weights = self.kernel_size**2 * input_shape[-1] // self.groups * self.filters
        return math.prod((height, width, weights))

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "groups": self.groups,
        }
