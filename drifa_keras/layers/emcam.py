"""Efficient multimodal cross-attention module: MAIL, Fig. 1B and 3."""

import keras
from keras import ops

from drifa_keras.layers._packing import (
    OmegaLayer,
    of_modality,
    require_maps,
    require_presence,
)
from drifa_keras.layers.attention_noise import AttentionNoise
from drifa_keras.layers.emsca import EMSCA
from drifa_keras.layers.mfifa import MFIFA


@keras.saving.register_keras_serializable(package="drifa_keras")
class EMCAM(OmegaLayer):
    """Efficient multimodal cross-attention module.

    `MFIFA` and `EMSCA` run in parallel, and one attention made from both gates all
    modalities:

    ```
    A    = sigmoid(omega_d * MFIFA(x_1..x_m) + omega_l * EMSCA(x_1..x_m))
    x'_i = x_i * A * omega_c,i
    ```

    `omega_d` is a scalar, `omega_l` holds one number per channel, `omega_c` one per
    modality and channel; all start at 1. (The names are those of `MIFA`.) Robust-MAIL
    gates by `A' = AttentionNoise(A)`, and draws a share of the filters of `EMSCA`.

    The released code takes `omega_l` to be the w_1 of `EMSCA`, and that of
    Robust-MAIL gates by `A * A'**5`.

    Reference: Dhar et al., *Effective and Robust Multimodal Medical Image Analysis*,
    KDD 2026, Fig. 1B, 3 and 4; equations as in the released code.

    Args:
        mfifa: Whether to use the `MFIFA` branch.
        emsca: Whether to use the `EMSCA` branch. At least one of the two is needed.
        dct: Transform of `MFIFA`, `"channel"` or `"spatial"`.
        groups: Number of groups of `EMSCA`.
        released: Whether to take the form of the released code, here, in `EMSCA` and
            in `AttentionNoise`.
        random_ratio: Share of random filters of `EMSCA`, from 0 (MAIL) to below 1.
        noise_stddev: Standard deviation of the noise, 0 (MAIL) for none.
        kernel_initializer: Initializer of each matrix of the branches.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: List of m >= 1 feature maps `(batch, height, width, channels)` of
            equal shape, one a modality, with a multiple of `groups` channels.
        presence: 0/1 tensor `(batch, m)`; by default all are present. An absent
            modality takes no part, and leaves the layer as zeros.

    Returns:
        List of m maps of the shape of the inputs.

    Attributes:
        mfifa: The branch, `None` where switched off.
        emsca: The branch, `None` where switched off.
        omega: The omegas, end to end in one vector.
    """

    def __init__(
        self,
        mfifa=True,
        emsca=True,
        dct="channel",
        groups=16,
        released=False,
        random_ratio=0.0,
        noise_stddev=0.0,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        if not (mfifa or emsca):
            raise ValueError(
                "EMCAM needs at least one of its branches. Received: mfifa=False and "
                "emsca=False. Leave the layer out (`emcam=False` in a model) instead."
            )
        super().__init__(
            {"mfifa": mfifa, "emsca": emsca},
            kernel_initializer=kernel_initializer,
            **kwargs,
        )
        self.dct = dct
        self.groups = groups
        self.released = bool(released)
        self.random_ratio = random_ratio
        self.noise_stddev = noise_stddev
        self.mfifa = self.emsca = self.noise = None
        if mfifa:
            self.mfifa = self._child(MFIFA, dct=dct)
        if emsca:
            self.emsca = self._child(
                EMSCA, groups=groups, released=released, random_ratio=random_ratio
            )
        if noise_stddev:
            self.noise = AttentionNoise(
                noise_stddev, released=released, dtype=self.dtype_policy, name="noise"
            )

    def build(self, input_shape):
        require_maps(self, input_shape)
        channels = input_shape[0][-1]
        own_scale = self.emsca is not None and not self.released
        self._add_omegas(
            omega_d=() if self.mfifa is not None else None,
            omega_l=(channels,) if own_scale else None,
            omega_c=(len(input_shape), channels),
        )
        for branch in (self.mfifa, self.emsca):
            if branch is not None:
                branch.build(input_shape)
        if self.noise is not None:
            self.noise.build(input_shape[0])

    def call(self, inputs, presence=None):
        require_presence(self, presence, len(inputs))
        omegas = self._split_omegas()
        gate = attention = self._attention(inputs, presence, omegas)
        if self.noise is not None:
            gate = self.noise(attention)
            if self.released:
                square = gate * gate
                gate = attention * square * square * gate
        outputs = []
        for index, x in enumerate(inputs):
            scale = omegas["omega_c"][index]
            if presence is not None:
                scale = scale * ops.cast(of_modality(presence, index, 4), scale.dtype)
            outputs.append(x * scale * gate)
        return outputs

    def attention(self, inputs, presence=None):
        """Computes `A`, `(batch, height or 1, width or 1, channels)`, without noise."""
        return self._attention(inputs, presence, self._split_omegas())

    def _attention(self, inputs, presence, omegas):
        logits = []
        if self.mfifa is not None:
            a_f = self.mfifa(inputs, presence=presence)
            logits.append(a_f * omegas["omega_d"])
        if self.emsca is not None:
            a_s = self.emsca(inputs, presence=presence)
            omega_l = self.emsca.scales[0] if self.released else omegas["omega_l"]
            logits.append(a_s * omega_l)
        return ops.sigmoid(sum(logits[1:], logits[0]))

    def compute_output_shape(self, input_shape):
        return [tuple(shape) for shape in input_shape]

    def multiply_adds(self, input_shape):
        """Multiply-adds for one sample of m maps `(batch, H, W, C)`."""
        branches = [branch for branch in (self.mfifa, self.emsca) if branch is not None]
        return sum(branch.multiply_adds(input_shape) for branch in branches)

    def get_config(self):
        return {
            **super().get_config(),
            "dct": self.dct,
            "groups": self.groups,
            "released": self.released,
            "random_ratio": self.random_ratio,
            "noise_stddev": self.noise_stddev,
        }
