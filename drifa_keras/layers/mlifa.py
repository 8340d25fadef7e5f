"""Multimodal local information fusion attention: DRIFA-Net, Fig. 3 and Eq. 7."""

import keras
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


@keras.saving.register_keras_serializable(package="drifa_keras")
class MLIFA(PackedKernelLayer):
    """Multimodal local information fusion attention.

    As `MGIFA`, with poolings over `local_window x local_window` windows, stride 1,
    so that every position keeps a descriptor of its own:

    ```
    l = sum_p sigmoid(K_p sum_i L_p(x_i) + k_p)      p over max, mean, min
    ```

    The released code has no windows: with `local_window=None`,

    ```
    l = sum_i sum_p p_global(sigmoid(K_i x_i + k_i))
    ```

    With `presence` r, every sum over i becomes `m / (sum_i r_i) * sum_i r_i (...)`.

    Reference: Dhar et al., *Multimodal Fusion Learning with Dual Attention for
    Medical Imaging*, WACV 2025, Eq. 7 and Fig. 3c.

    Args:
        local_window: Odd side of the windows in cells of the map. At the border a
            window holds the cells inside the map only. `None` for the released
            form.
        shared_fc: Whether one K serves the three poolings; in the paper each has
            its own. Without effect where `local_window=None`.
        kernel_initializer: Initializer of each matrix.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: List of m >= 1 feature maps `(batch, height, width, channels)`.
        presence: 0/1 tensor `(batch, m)`; by default all are present.

    Returns:
        `l` of shape `(batch, height, width, channels)`, or `(batch, 1, 1,
        channels)` with `local_window=None`.

    Attributes:
        kernel: `(3, channels, channels)` in the order max, mean, min, or `(1,
            channels, channels)`; with `local_window=None` `(m, channels, channels)`.
        bias: `(3, channels)`, `(1, channels)` or `(m, channels)`.
    """

    def __init__(
        self,
        local_window=3,
        shared_fc=False,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        if local_window is not None and (
            not isinstance(local_window, int)
            or local_window < 1
            or local_window % 2 == 0
        ):
            raise ValueError(
                "`local_window` must be an odd number of cells, at least 1, or None "
                f"for the released form. Received: local_window={local_window!r}."
            )
        self.local_window = local_window
        self.shared_fc = bool(shared_fc)

    def build(self, input_shape):
        require_maps(self, input_shape)
        channels = input_shape[0][-1]
        if self.local_window is None:
            count = len(input_shape)
        else:
            count = 1 if self.shared_fc else 3
        self._add_matrices([(channels, channels)] * count)

    def call(self, inputs, presence=None):
        require_presence(self, presence, len(inputs))
        if self.local_window is None:
            return self._global_pools(inputs, presence)
        pooled = [
            sum_over_modalities([pool(x) for x in inputs], presence)
            for pool in (self._window_max, self._window_mean, self._window_min)
        ]
        repeats = 3 if self.shared_fc else 1
        kernels = unstack(self.kernel) * repeats
        biases = unstack(self.bias) * repeats
        return sum(
            ops.sigmoid(ops.matmul(x, kernel) + bias)
            for x, kernel, bias in zip(pooled, kernels, biases, strict=True)
        )

    def _global_pools(self, inputs, presence):
        per_modality = []
        for x, kernel, bias in zip(
            inputs, unstack(self.kernel), unstack(self.bias), strict=True
        ):
            u = ops.sigmoid(ops.matmul(x, kernel) + bias)
            per_modality.append(
                spatial_max(u, keepdims=True)
                + spatial_mean(u, keepdims=True)
                + spatial_min(u, keepdims=True)
            )  # (batch, 1, 1, C)
        return sum_over_modalities(per_modality, presence)

    def _window_max(self, x):
        return ops.max_pool(
            x, self.local_window, 1, padding="same", data_format="channels_last"
        )

    def _window_min(self, x):
        return -self._window_max(-x)

    def _window_mean(self, x):
        mean = ops.average_pool(
            ops.cast(x, "float32"),
            self.local_window,
            1,
            padding="same",
            data_format="channels_last",
        )
        return ops.cast(mean, x.dtype)

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape[0]
        if self.local_window is None:
            return (batch, 1, 1, channels)
        return (batch, height, width, channels)

    def multiply_adds(self, input_shape):
        """Multiply-adds for one sample of m maps `(batch, H, W, C)`."""
        _, height, width, channels = input_shape[0]
        products = len(input_shape) if self.local_window is None else 3
        return products * height * width * channels**2

    def get_config(self):
        return {
            **super().get_config(),
            "local_window": self.local_window,
            "shared_fc": self.shared_fc,
        }
