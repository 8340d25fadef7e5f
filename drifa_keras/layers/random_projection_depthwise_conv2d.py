"""Random projection filters of depthwise convolutions: Robust-MAIL, Fig. 4E."""

import keras
from keras import ops

from drifa_keras.depthwise import depthwise_conv
from drifa_keras.layers._mail import (
    RandomProjectionLayer,
    strided_shape,
)


@keras.saving.register_keras_serializable(package="drifa_keras")
class RandomProjectionDepthwiseConv2D(RandomProjectionLayer):
    """A depthwise convolution some filters of which are random in every call.

    The last `round(random_ratio * channels)` channels are not convolved with trained
    filters, but with weights drawn from N(0, 1 / r**2), with r the kernel size, anew
    in every call, in training and at inference. `freeze_randomness` holds the draw.
    Padding is 'same'.

    Reference: as `RandomProjectionConv2D`.

    Args:
        kernel_size: Side of the kernels, r.
        strides: Stride along height and width.
        random_ratio: Share of the channels whose filter is random, from 0 (none) to
            below 1.
        use_bias: Whether to add a trained bias to every channel.
        kernel_initializer: Initializer of the trained filters.
        seed: Integer seed of the draws.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        x: Feature map of shape `(batch, height, width, channels)`.

    Returns:
        Map of shape `(batch, ceil(height / strides), ceil(width / strides),
        channels)`.

    Attributes:
        kernel: The trained filters, `(r, r, trained, 1)`.
        bias: `(channels,)`, or `None`.
    """

    def build(self, input_shape):
        super().build(input_shape)
        channels = input_shape[-1]
        self._random = self._random_filters(channels)
        self.kernel = self.add_weight(
            shape=(self.kernel_size, self.kernel_size, channels - self._random, 1),
            initializer=self.kernel_initializer,
            name="kernel",
        )

    def draw_kernel(self):
        """Draws the random filters and returns the kernel `(r, r, channels, 1)`."""
        kernel = ops.convert_to_tensor(self.kernel)
        return self._with_random_filters(kernel, self._random, axis=2)

    def convolve(self, x, kernel):
        """Convolves `x` with what `draw_kernel` returned."""
        return self._with_bias(depthwise_conv(x, kernel, self.strides))

    def compute_output_shape(self, input_shape):
        return strided_shape(input_shape, self.strides, input_shape[-1])

    def multiply_adds(self, input_shape):
        """Multiply-adds for one sample of `input_shape` `(batch, H, W, C)`."""
        _, height, width, channels = self.compute_output_shape(input_shape)
        return height * width * channels * self.kernel_size**2
