"""DRIFA-Net: Fig. 1 and Algorithm 1."""

import functools

import keras

from drifa_keras.layers import MFA, MIFA, RRABlock
from drifa_keras.models.staged_model import (
    StagedModel,
    as_switch,
    check_choice,
    optional,
)

_MFA = ("hifa", "clia", "omega_d", "omega_l", "omega_c", "activation")
_MIFA = (
    "mgifa",
    "mlifa",
    "omega_d",
    "omega_l",
    "omega_c",
    "local_window",
    "shared_fc",
)


@keras.saving.register_keras_serializable(package="drifa_keras")
class DRIFANet(StagedModel):
    """DRIFA-Net on ResNet-18, for any number of modalities and tasks.

    One branch a modality: a stem, then stages of two `RRABlock`s with an `MFA`
    behind each. `MIFA` joins the branches; the streams are concatenated, pooled, and
    read by one softmax head a task.

    Reference: Dhar et al., *Multimodal Fusion Learning with Dual Attention for
    Medical Imaging*, WACV 2025, Fig. 1 and Algorithm 1.

    Args:
        modalities: Dict of modality name to image shape `(height, width,
            channels)`, with 1 or 3 channels. Sizes must lead to equal maps.
        tasks: Dict of task name to number of classes.
        backbone: `"resnet18"`.
        mfa: `True`, `False` (no `MFA` anywhere) or a dict of arguments of `MFA`.
        mifa: `True`, `False` (no `MIFA`) or a dict of arguments of `MIFA`.
        fusion: Where `MIFA` stands: `"last"` (after the last block, as in
            Algorithm 1), `"every_stage"` or `"every_block"`.
        dropout: Rate of every dropout layer; 0 leaves them out.
        filters: Channels of each stage; as many stages as entries.
        stem: `"resnet"` (7x7 convolution of stride 2, then a pool of stride 2) or
            `"small"` (3x3 of stride 1, then a pool of stride 2), for images of 32
            to 64 px.
        dropout_after: Where dropout stands beside the fused map: a stage `s`, for
            the end of that stage, or a pair `(s, b)` for a block of it, counted
            from 0. It comes before the `MFA` behind that block.
        final_mfa: Whether an `MFA` follows the very last block.
        norm_momentum: Momentum of the running statistics of batch normalisation. 0.99
            is what the released code uses; runs of a few hundred steps need less, or
            the statistics lag behind the weights.
        modality_dropout: Probability with which training blanks a modality.
        rescaling: Factor on the pixels; `None` takes them as they come.
        dtype: Dtype policy of the network; heads are float32.
        **kwargs: `name` and `trainable`.

    Call arguments:
        inputs: Dict of images `(batch, height, width, channels)`, pixels 0..255. An
            image of zeros counts as absent.

    Returns:
        Dict of float32 probabilities `(batch, classes)` keyed by task.

    Example:
    ```python
    model = DRIFANet(
        modalities={"dermoscopy": (128, 128, 3), "mri": (128, 128, 1)},
        tasks={"skin_lesion": 7, "tumor": 4},
    )
    ```
    """

    def __init__(
        self,
        modalities,
        tasks,
        backbone="resnet18",
        mfa=True,
        mifa=True,
        fusion="last",
        dropout=0.25,
        *,
        filters=(64, 128, 256, 512),
        stem="resnet",
        dropout_after=(1, 2),
        final_mfa=True,
        norm_momentum=0.99,
        modality_dropout=0.0,
        rescaling=1 / 255,
        dtype=None,
        **kwargs,
    ):
        check_choice("backbone", backbone, ("resnet18",))
        super().__init__(
            modalities,
            tasks,
            block=functools.partial(RRABlock, mfa=mfa),
            gate=optional(MFA, mfa, _MFA),
            final_gate=final_mfa,
            fuse=optional(MIFA, mifa, _MIFA),
            fusion=fusion,
            dropout=dropout,
            filters=filters,
            stem=stem,
            dropout_after=dropout_after,
            norm_momentum=norm_momentum,
            modality_dropout=modality_dropout,
            rescaling=rescaling,
            dtype=dtype,
            **kwargs,
        )

        # === Config ===
        self.backbone = backbone
        self.mfa = as_switch(mfa)
        self.mifa = as_switch(mifa)
        self.final_mfa = bool(final_mfa)

    def get_config(self):
        return {
            **super().get_config(),
            "backbone": self.backbone,
            "mfa": as_switch(self.mfa),
            "mifa": as_switch(self.mifa),
            "final_mfa": self.final_mfa,
        }
