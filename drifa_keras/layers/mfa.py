"""Multi-branch fusion attention: DRIFA-Net, Fig. 2 and Eq. 4."""

import keras
from keras import ops

from drifa_keras.layers._packing import OmegaLayer, require_map, scaled
from drifa_keras.layers.clia import CLIA
from drifa_keras.layers.hifa import HIFA


@keras.saving.register_keras_serializable(package="drifa_keras")
class MFA(OmegaLayer):
    """Multi-branch fusion attention.

    Gates the channels of a feature map with what two branches, `HIFA` and `CLIA`,
    learn about it:

    ```
    a  = sigmoid(omega_d * HIFA(x) + omega_l * CLIA(x))
    x' = x * a * omega_c
    ```

    `omega_d` is a scalar, `omega_l` and `omega_c` hold one number per channel; all
    start at 1.

    Reference: Dhar et al., *Multimodal Fusion Learning with Dual Attention for
    Medical Imaging*, WACV 2025, Eq. 4, Fig. 2a and Algorithm 1(b).

    Args:
        hifa: Whether to use the `HIFA` branch (Table 5).
        clia: Whether to use the `CLIA` branch (Table 5). At least one of the two
            is needed.
        omega_d: Whether `omega_d` is trained (`True`) or absent, that is 1
            (Table 6). It is absent as well where `hifa=False`.
        omega_l: The same for `omega_l` and `clia`.
        omega_c: The same for `omega_c`.
        activation: Activation of `HIFA`.
        kernel_initializer: Initializer of each matrix of the branches.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        x: Feature map of shape `(batch, height, width, channels)`.

    Returns:
        The gated map, of the shape of `x`.

    Attributes:
        hifa: The branch, `None` where switched off.
        clia: The branch, `None` where switched off.
        omega: The omegas that are trained, end to end in one vector.
    """

    def __init__(
        self,
        hifa=True,
        clia=True,
        omega_d=True,
        omega_l=True,
        omega_c=True,
        activation="sigmoid",
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        if not (hifa or clia):
            raise ValueError(
                "MFA needs at least one of its branches. Received: hifa=False and "
                "clia=False. Leave the layer out (`mfa=False` in a model) instead."
            )
        switches = {
            "hifa": hifa,
            "clia": clia,
            "omega_d": omega_d,
            "omega_l": omega_l,
            "omega_c": omega_c,
        }
        super().__init__(switches, kernel_initializer=kernel_initializer, **kwargs)
        self.activation = keras.activations.get(activation)
        self.hifa = self._child(HIFA, activation=self.activation) if hifa else None
        self.clia = self._child(CLIA) if clia else None

    def build(self, input_shape):
        require_map(self, input_shape)
        channels = input_shape[-1]
        self._add_omegas(
            omega_d=() if self.hifa is not None else None,
            omega_l=(channels,) if self.clia is not None else None,
            omega_c=(channels,),
        )
        for branch in (self.hifa, self.clia):
            if branch is not None:
                branch.build(input_shape)

    def call(self, x):
        return x * self.applied_gates(x)

    def applied_gates(self, x):
        """Computes `a * omega_c`, by which `x` is multiplied: `(batch, 1, 1, C)`."""
        omegas = self._split_omegas()
        gate = scaled(self._gate(x, omegas), omegas["omega_c"])
        return ops.expand_dims(gate, (1, 2))

    def gate(self, x):
        """Computes the attention `a` of Eq. 4, of shape `(batch, channels)`."""
        return self._gate(x, self._split_omegas())

    def _gate(self, x, omegas):
        logits = 0.0
        if self.hifa is not None:
            logits += scaled(self.hifa(x), omegas["omega_d"])
        if self.clia is not None:
            logits += scaled(self.clia(x), omegas["omega_l"])
        return ops.sigmoid(logits)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def multiply_adds(self, input_shape):
        """Multiply-adds for one sample of `input_shape` `(batch, H, W, C)`."""
        branches = [branch for branch in (self.hifa, self.clia) if branch is not None]
        return sum(branch.multiply_adds(input_shape) for branch in branches)

    def get_config(self):
        return {
            **super().get_config(),
            "activation": keras.activations.serialize(self.activation),
        }
