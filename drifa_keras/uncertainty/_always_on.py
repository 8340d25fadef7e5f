"""Dropout whose mask is a function of a key: the random part of a pass.

The generator is counter-based (Salmon et al., *Parallel Random Numbers: As Easy as 1,
2, 3*, SC 2011): a hash of a row's key and of an element's position. No state moves, and
a row gets the same mask whichever rows stand beside it, on whichever backend.
"""

import math

import keras
from keras import ops

DROPOUTS = (
    keras.layers.Dropout,  # with SpatialDropout and MCDropout, its subclasses
    keras.layers.AlphaDropout,
    keras.layers.GaussianDropout,
)
_SPATIAL = (
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
)
# Multipliers with good avalanche, as int32: Wellons' lowbias32.
_FIRST, _SECOND = 0x7FEB352D, 0x846CA68B - 2**32
# The value to which SELU saturates: -scale * alpha.
_SATURATION = -1.0507009873554805 * 1.6732632423543772


class AlwaysOn(keras.layers.Layer):
    """A dropout layer that drops in every call, by keys instead of a seed.

    Args:
        dropout: The dropout layer whose part it takes.
        column: Which column of the keys it reads.

    Call arguments:
        inputs: Tensor `(rows, ...)`, or `(rows * folded, ...)`.
        keys: int32 tensor `(rows, columns)` of random numbers.

    Attributes:
        shared: Whether the samples of a batch are meant to share a mask, by a
            `noise_shape` of 1 on the first axis. Their keys have to be equal then.
    """

    def __init__(self, dropout, column):
        super().__init__(dtype=dropout.dtype_policy)
        self.rate = float(dropout.rate)
        self.column = column
        self.supports_masking = True
        self._drop = _drop
        self._noise_shape = getattr(dropout, "noise_shape", None)
        if isinstance(dropout, keras.layers.AlphaDropout):
            self._drop = _drop_alpha
        elif isinstance(dropout, keras.layers.GaussianDropout):
            self._drop = _multiply_gaussian
        elif isinstance(dropout, _SPATIAL):
            # `SpatialDropout1D` has no data format: channels are last.
            first = getattr(dropout, "data_format", None) == "channels_first"
            ones = (1,) * (dropout.input_spec.ndim - 2)
            self._noise_shape = (None, None, *ones) if first else (None, *ones, None)
        self.shared = self._noise_shape is not None and self._noise_shape[0] == 1

    def call(self, inputs, keys):
        shape = list(ops.shape(inputs))
        for axis, size in enumerate(self._noise_shape or ()):
            if axis and size is not None:
                shape[axis] = size
        bits = random_bits(keys[:, self.column], shape)
        return ops.cast(self._drop(inputs, bits, self.rate), inputs.dtype)

    def compute_output_shape(self, inputs_shape, keys_shape):
        return inputs_shape


def random_bits(keys, shape):
    """Makes 32 random bits for each element of a tensor of `shape`.

    Args:
        keys: int32 tensor `(rows,)`. Equal keys give equal rows.
        shape: Sizes of the tensor; the first one is `rows`, or a multiple of it.

    Returns:
        int32 tensor of `shape`, uniform over all int32.
    """
    of_a_row = math.prod(shape) // ops.shape(keys)[0]
    positions = ops.arange(of_a_row, dtype="int32")
    positions = _scramble(_scramble(positions))
    bits = _scramble(ops.bitwise_xor(keys[:, None], positions[None, :]))
    return ops.reshape(bits, (-1, *shape[1:]))


def _scramble(x):
    """Hashes int32 to int32; the high bits are the good ones."""
    x = x * _FIRST
    x = ops.bitwise_xor(x, ops.right_shift(x, 15))
    return x * _SECOND


def _kept(bits, rate):
    return ops.greater_equal(bits, min(round(rate * 2**32), 2**32 - 1) - 2**31)


def _drop(x, bits, rate):
    scale = 1 / (1 - rate) if rate < 1 else 0.0
    return ops.where(_kept(bits, rate), x * scale, ops.zeros_like(x))


def _drop_alpha(x, bits, rate):
    """Klambauer et al., *Self-Normalizing Neural Networks*, 2017, Sec. 3."""
    a = ((1 - rate) * (1 + rate * _SATURATION**2)) ** -0.5
    b = -a * _SATURATION * rate
    return a * ops.where(_kept(bits, rate), x, _SATURATION) + b


def _multiply_gaussian(x, bits, rate):
    # Beyond this, float32 would round to 1, where the inverse is infinite.
    uniform = ops.clip(ops.cast(bits, "float32") * 2.0**-31, 2.0**-24 - 1, 1 - 2.0**-24)
    normal = math.sqrt(2) * ops.erfinv(uniform)
    return x * (1 + math.sqrt(rate / (1 - rate)) * normal)
