"""Multimodal information fusion attention: DRIFA-Net, Fig. 3 and Eq. 5-8."""

import keras
from keras import ops

from drifa_keras.layers._packing import (
    OmegaLayer,
    of_modality,
    require_maps,
    require_presence,
    scaled,
)
from drifa_keras.layers.mgifa import MGIFA
from drifa_keras.layers.mlifa import MLIFA


@keras.saving.register_keras_serializable(package="drifa_keras")
class MIFA(OmegaLayer):
    """Multimodal information fusion attention.

    One attention, made from all modalities by `MGIFA` and `MLIFA`, gates them all:

    ```
    A     = sigmoid(omega_d * MGIFA(x_1..x_m) + omega_l * MLIFA(x_1..x_m))
    x_i^S = x_i * A * omega_c,i
    ```

    `omega_d` is a scalar, `omega_l` holds one number per channel, `omega_c` one per
    modality and channel; all start at 1.

    Reference: Dhar et al., *Multimodal Fusion Learning with Dual Attention for
    Medical Imaging*, WACV 2025, Eq. 5-8, Fig. 3a and Algorithm 1(c).

    Args:
        mgifa: Whether to use `MGIFA` (Table 5).
        mlifa: Whether to use `MLIFA` (Table 5). At least one of the two is needed.
        omega_d: Whether `omega_d` is trained (`True`) or absent, that is 1
            (Table 6). It is absent as well where `mgifa=False`.
        omega_l: The same for `omega_l` and `mlifa`.
        omega_c: The same for `omega_c`.
        local_window: Side of the windows of `MLIFA`; `None` for the released form.
        shared_fc: Whether one fully connected layer serves the three poolings.
        kernel_initializer: Initializer of each matrix of the branches.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: List of m >= 1 feature maps `(batch, height, width, channels)` of
            equal shape, one a modality.
        presence: 0/1 tensor `(batch, m)`; by default all are present. An absent
            modality takes no part, and leaves the layer as zeros.

    Returns:
        List of m maps of the shape of the inputs.

    Attributes:
        mgifa: The branch, `None` where switched off.
        mlifa: The branch, `None` where switched off.
        omega: The omegas that are trained, end to end in one vector.
    """

    def __init__(
        self,
        mgifa=True,
        mlifa=True,
        omega_d=True,
        omega_l=True,
        omega_c=True,
        local_window=3,
        shared_fc=False,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        if not (mgifa or mlifa):
            raise ValueError(
                "MIFA needs at least one of its branches. Received: mgifa=False and "
                "mlifa=False. Leave the layer out (`mifa=False` in a model) instead."
            )
        switches = {
            "mgifa": mgifa,
            "mlifa": mlifa,
            "omega_d": omega_d,
            "omega_l": omega_l,
            "omega_c": omega_c,
        }
        super().__init__(switches, kernel_initializer=kernel_initializer, **kwargs)
        self.local_window = local_window
        self.shared_fc = bool(shared_fc)
        self.mgifa = self.mlifa = None
        if mgifa:
            self.mgifa = self._child(MGIFA, shared_fc=shared_fc)
        if mlifa:
            self.mlifa = self._child(
                MLIFA, local_window=local_window, shared_fc=shared_fc
            )

    def build(self, input_shape):
        require_maps(self, input_shape)
        channels = input_shape[0][-1]
        self._add_omegas(
            omega_d=() if self.mgifa is not None else None,
            omega_l=(channels,) if self.mlifa is not None else None,
            omega_c=(len(input_shape), channels),
        )
        for branch in (self.mgifa, self.mlifa):
            if branch is not None:
                branch.build(input_shape)

    def call(self, inputs, presence=None):
        gates = self.applied_gates(inputs, presence)
        return [x * gate for x, gate in zip(inputs, gates, strict=True)]

    def applied_gates(self, inputs, presence=None):
        """Computes `A * omega_c,i`, by which `x_i` is multiplied, for each modality.

        Returns:
            List of m tensors `(batch, height or 1, width or 1, channels)`, zero where
            a modality is absent.
        """
        require_presence(self, presence, len(inputs))
        omegas = self._split_omegas()
        attention = self._attention(inputs, presence, omegas)
        gates = []
        for index in range(len(inputs)):
            # The small factors first: the attention is as large as the map.
            scale = None if omegas["omega_c"] is None else omegas["omega_c"][index]
            if presence is not None:
                there = ops.cast(of_modality(presence, index, 4), attention.dtype)
                scale = scaled(there, scale)
            gates.append(scaled(attention, scale))
        return gates

    def attention(self, inputs, presence=None):
        """Computes `A` of Eq. 8, `(batch, height or 1, width or 1, channels)`."""
        return self._attention(inputs, presence, self._split_omegas())

    def _attention(self, inputs, presence, omegas):
        logits = []
        if self.mgifa is not None:
            g = scaled(self.mgifa(inputs, presence=presence), omegas["omega_d"])
            logits.append(ops.expand_dims(g, (1, 2)))  # (batch, 1, 1, C)
        if self.mlifa is not None:
            l = self.mlifa(inputs, presence=presence)
            logits.append(scaled(l, omegas["omega_l"]))
        return ops.sigmoid(sum(logits[1:], logits[0]))

    def compute_output_shape(self, input_shape):
        return [tuple(shape) for shape in input_shape]

    def multiply_adds(self, input_shape):
        """Multiply-adds for one sample of m maps `(batch, H, W, C)`."""
        branches = [branch for branch in (self.mgifa, self.mlifa) if branch is not None]
        return sum(branch.multiply_adds(input_shape) for branch in branches)

    def get_config(self):
        return {
            **super().get_config(),
            "local_window": self.local_window,
            "shared_fc": self.shared_fc,
        }
