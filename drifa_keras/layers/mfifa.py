"""Multi-frequency information fusion attention: MAIL, Fig. 3A."""

import functools

import keras
import numpy as np
from keras import ops

from drifa_keras.layers._packing import (
    PackedKernelLayer,
    require_maps,
    require_presence,
    spatial_max,
    spatial_mean,
    spatial_min,
    sum_over_modalities,
    unstack,
)

_DCTS = ("channel", "spatial")


@keras.saving.register_keras_serializable(package="drifa_keras")
class MFIFA(PackedKernelLayer):
    """Multi-frequency information fusion attention.

    One attention for all modalities, from a discrete cosine transform (DCT) D of each
    and its poolings over the map:

    ```
    h1, l1, l2 = sigmoid(W p(D) + b)             p = max, mean, min
    High = h1 + (h1 - l1) + (D - l2)    Low = l1 + l2    Mean = High - Low
    A_f  = sigmoid(sum_i m1 High_i + m2 Low_i + m3 Mean_i)
    ```

    W and b serve all modalities and poolings; m1, m2 and m3 are scalars that start
    at 1. With `presence` r, the sum over i becomes `m / (sum_i r_i) * sum_i r_i (...)`.

    Reference: Dhar et al., *Effective and Robust Multimodal Medical Image Analysis*,
    KDD 2026, Fig. 3A; equations as in the released code.

    Args:
        dct: `"channel"`, the orthonormal DCT-II over the channels of each cell, as in
            the released code, or `"spatial"`, over height and width of each channel,
            which needs maps of known size.
        kernel_initializer: Initializer of W.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: List of m >= 1 feature maps `(batch, height, width, channels)` of
            equal shape, one a modality.
        presence: 0/1 tensor `(batch, m)`; by default all are present.

    Returns:
        The attention `A_f` of shape `(batch, height, width, channels)`.

    Attributes:
        kernel: W, `(1, channels, channels)`.
        bias: b, `(1, channels)`.
        scales: m1, m2 and m3.
    """

    def __init__(self, dct="channel", kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        if dct not in _DCTS:
            raise ValueError(
                f"`dct` must be one of {list(_DCTS)}. Received: dct={dct!r}."
            )
        self.dct = dct

    def build(self, input_shape):
        require_maps(self, input_shape)
        _, height, width, channels = input_shape[0]
        if self.dct == "spatial" and None in (height, width):
            raise ValueError(
                f"Layer {self.name!r} with dct='spatial' needs maps of known height "
                f"and width. Received: shape {tuple(input_shape[0])}. Give the inputs "
                "a fixed size, or use dct='channel'."
            )
        self._add_matrices([(channels, channels)])
        self.scales = self.add_weight(shape=(3,), initializer="ones", name="scales")

    def call(self, inputs, presence=None):
        require_presence(self, presence, len(inputs))
        spectra, highs, lows = [], [], []
        for x in inputs:
            spectrum = self._transform(x)
            pooled = ops.stack(
                [spatial_max(spectrum), spatial_mean(spectrum), spatial_min(spectrum)]
            )  # (3, batch, C)
            h1, l1, l2 = unstack(
                ops.sigmoid(ops.matmul(pooled, self.kernel) + self.bias)
            )
            spectra.append(spectrum)
            highs.append(2 * h1 - l1 - l2)
            lows.append(l1 + l2)
        high, low = (
            ops.expand_dims(sum_over_modalities(part, presence), (1, 2))
            for part in (highs, lows)
        )  # (batch, 1, 1, C)
        m1, m2, m3 = unstack(self.scales)
        # m1 High + m2 Low + m3 (High - Low), with the map D in one place
        high_scale, low_scale = m1 + m3, m2 - m3
        return ops.sigmoid(
            high_scale * sum_over_modalities(spectra, presence)
            + (high_scale * high + low_scale * low)
        )

    def _transform(self, x):
        if self.dct == "channel":
            return ops.matmul(x, _dct_matrix(x.shape[-1], x.dtype))
        _, height, width, _ = x.shape
        return ops.einsum(
            "bhwc,hk,wl->bklc",
            x,
            _dct_matrix(height, x.dtype),
            _dct_matrix(width, x.dtype),
        )

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[0])

    def multiply_adds(self, input_shape):
        """Multiply-adds for one sample of m maps `(batch, H, W, C)`.

        The transforms are counted as the matrix products they are computed by.
        """
        _, height, width, channels = input_shape[0]
        sides = channels if self.dct == "channel" else height + width
        of_one = height * width * channels * sides + 3 * channels**2
        return len(input_shape) * of_one

    def get_config(self):
        return {**super().get_config(), "dct": self.dct}


def _dct_matrix(size, dtype):
    """The matrix M of the orthonormal DCT-II, `(size, size)`: y = x M."""
    return ops.convert_to_tensor(_cosines(size), dtype=dtype)


@functools.cache
def _cosines(size):
    place, frequency = np.arange(size)[:, None], np.arange(size)[None, :]
    matrix = np.sqrt(2 / size) * np.cos(np.pi * (2 * place + 1) * frequency / 2 / size)
    matrix[:, 0] /= np.sqrt(2)
    return matrix.astype("float32")
