"""Hierarchical information fusion attention: DRIFA-Net, Fig. 2 and Eq. 1-2."""

import keras
from keras import ops

from drifa_keras.layers._packing import (
    MapDescriptor,
    require_map,
    spatial_max,
    spatial_mean,
    unstack,
)

# They keep the order of numbers, and tell none apart that differ by far less than 1.
_SQUASHING = (keras.activations.sigmoid, keras.activations.tanh)


@keras.saving.register_keras_serializable(package="drifa_keras")
class HIFA(MapDescriptor):
    """Hierarchical information fusion attention.

    Four 1x1 convolutions, each reading what the ones before it found, are pooled
    in turn by mean and maximum over the map and condensed into one descriptor per
    channel:

    ```
    u1 = act(W1 x + b1)          l0 = GAP(u1)
    u2 = act(W2 u1 + b2)         l1 = GMP(u2)
    u3 = act(W3 (u1 + u2) + b3)  l2 = GAP(u3)
    u4 = act(W4 u3 + b4)         l3 = GMP(u4)
    d  = act(Wf [l0 + l1, l2 + l3] + bf)
    ```

    Reference: Dhar et al., *Multimodal Fusion Learning with Dual Attention for
    Medical Imaging*, WACV 2025, Eq. 1-2, Fig. 2b and Algorithm 1(b). The paper
    names no activation; the released code uses the logistic function throughout.

    Args:
        activation: Activation of the four convolutions and of the last, fully
            connected step. `None` makes them linear.
        kernel_initializer: Initializer of each of the five matrices.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        x: Feature map of shape `(batch, height, width, channels)`.

    Returns:
        The descriptor `d` of shape `(batch, channels)`.

    Attributes:
        kernel: `(6, channels, channels)`: W1 to W4, then the two halves of Wf.
        bias: `(5, channels)`: b1 to b4 and bf.
    """

    def __init__(
        self, activation="sigmoid", kernel_initializer="glorot_uniform", **kwargs
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.activation = keras.activations.get(activation)

    def build(self, input_shape):
        require_map(self, input_shape)
        channels = input_shape[-1]
        self._add_matrices([(channels, channels)] * 4 + [(2 * channels, channels)])

    def describe(self, x, kernel, bias):
        w1, w2, w3, w4, w_upper, w_lower = unstack(kernel)
        b1, b2, b3, b4, bf = unstack(bias)
        u1 = self.activation(ops.matmul(x, w1) + b1)
        u2 = self.activation(ops.matmul(u1, w2) + b2)
        u3 = self.activation(ops.matmul(u1 + u2, w3) + b3)
        z4 = ops.matmul(u3, w4)
        if self.activation in _SQUASHING:  # only the maxima need it
            l3 = self.activation(spatial_max(z4, scale=1.0) + b4)
        else:
            l3 = spatial_max(self.activation(z4 + b4))
        upper = spatial_mean(u1) + spatial_max(u2)  # (batch, C)
        lower = spatial_mean(u3) + l3  # (batch, C)
        return self.activation(
            ops.matmul(upper, w_upper) + ops.matmul(lower, w_lower) + bf
        )

    def multiply_adds(self, input_shape):
        """Multiply-adds for one sample of `input_shape` `(batch, H, W, C)`."""
        _, height, width, channels = input_shape
        return (4 * height * width + 2) * channels**2

    def get_config(self):
        return {
            **super().get_config(),
            "activation": keras.activations.serialize(self.activation),
        }
