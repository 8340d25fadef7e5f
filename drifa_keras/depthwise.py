"""Depthwise convolution with 'same' padding."""

import math

import keras
from keras import ops

# Maps of fewer numbers are convolved too fast to win back the longer compilation.
_LARGE = 4096


def depthwise_conv(x, kernel, strides):
    """A depthwise convolution with 'same' padding.

    XLA has no fast one for CPUs: there a sum of shifted products takes a tenth of the
    time of JAX's own, and its gradients a third.

    Args:
        x: Map `(batch, height, width, channels)`.
        kernel: Tensor `(r, r, channels, 1)`.
        strides: Stride along height and width.
    """
    if keras.backend.backend() == "jax" and _pays(x):
        return _sum_of_shifts(x, kernel, strides)
    return _conv(x, kernel, strides)


def _pays(x):
    import jax

    large = math.prod(x.shape[1:]) >= _LARGE
    return large and x.dtype == "float32" and jax.default_backend() == "cpu"


def _conv(x, kernel, strides):
    return ops.depthwise_conv(x, kernel, strides, "same", data_format="channels_last")


def _sum_of_shifts(x, kernel, strides):
    import jax
    from jax import lax
    from jax import numpy as jnp

    side, sizes = kernel.shape[0], x.shape[1:3]
    counts = [-(-size // strides) for size in sizes]
    # How far windows reach over the first row or column, and from the first of one
    # window to the first of the last.
    before = [
        max((count - 1) * strides + side - size, 0) // 2
        for count, size in zip(counts, sizes, strict=True)
    ]
    spans = [(count - 1) * strides + 1 for count in counts]

    def correlate(x, kernel, starts, inner, sizes, step):
        """Sums of `side` by `side` windows of x, weighted; zeros around and between."""
        ends = [
            size + side - 1 - start - ((length - 1) * (inner + 1) + 1)
            for size, start, length in zip(sizes, starts, x.shape[1:3], strict=True)
        ]
        padding = [(start, end, inner) for start, end in zip(starts, ends, strict=True)]
        x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *padding, (0, 0, 0)])
        return sum(
            x[:, i : i + sizes[0] : step, j : j + sizes[1] : step] * kernel[i, j, :, 0]
            for i in range(side)
            for j in range(side)
        )

    @jax.custom_gradient
    def convolve(x, kernel):
        def gradients(upstream):
            back = [side - 1 - start for start in before]
            of_x = correlate(
                upstream, jnp.flip(kernel, (0, 1)), back, strides - 1, sizes, 1
            )
            # The gradient of the kernel is many sums, which take long to compile.
            (of_kernel,) = jax.linear_transpose(lambda k: _conv(x, k, strides), kernel)(
                upstream
            )
            return of_x, of_kernel

        return correlate(x, kernel, before, 0, spans, strides), gradients

    return convolve(x, kernel)
