"""DRIFA-Net for segmentation: SegNet with attention."""

import keras

from drifa_keras.layers import MFA, MIFA
from drifa_keras.models.backbones import check_choice
from drifa_keras.models.drifa_net import MFA_ARGUMENTS, MIFA_ARGUMENTS
from drifa_keras.models.encoder_decoder import SegNetStages, check_divisible
from drifa_keras.models.multimodal_model import MultimodalModel
from drifa_keras.models.staged_model import as_switch, optional


@keras.saving.register_keras_serializable(package="drifa_keras")
class DRIFASegNet(MultimodalModel):
    """DRIFA-Net on SegNet, which segments aligned images of several modalities.

    One encoder a modality, with an `MFA` behind the convolutions of each stage. `MIFA`
    joins the pooled maps; they are concatenated, brought to the channels of one
    stream by a 1x1 convolution, and decoded once. The decoder unpools by the mean of
    what the modalities that are present remember of their maxima, and adds the maps
    of all of them as they were before the pooling, joined in the same way.

    Reference: Dhar et al., *Multimodal Fusion Learning with Dual Attention for
    Medical Imaging*, WACV 2025, Table 3, which names SegNet and says no more: where
    attention and fusion stand is ours. Badrinarayanan et al., *SegNet*, IEEE TPAMI
    2017; its Table 1 has a decoder that adds maps of the encoder, too.

    Args:
        modalities: Dict of modality name to image shape `(height, width, channels)`,
            with 1 or 3 channels. All show the same case in the same place and have
            one size, divisible by 2 for each stage.
        tasks: Dict of task name to number of classes of its pixels, the background
            among them.
        mfa: `True`, `False` (no `MFA` anywhere) or a dict of arguments of `MFA`.
        mifa: `True`, `False` (no `MIFA`) or a dict of arguments of `MIFA`.
        fusion: Where `MIFA` stands: `"last"`, after the last pooling, or
            `"every_stage"`, after each.
        dropout: Rate of every dropout layer; 0 leaves them out.
        skips: Whether the decoder adds the maps of the encoders before each pooling,
            which lets the modalities meet in every pixel.
        filters: Channels of each stage.
        convolutions: Number of 3x3 convolutions of each stage, those of VGG-16 by
            default.
        norm_momentum: Momentum of the running statistics of batch normalisation.
        modality_dropout: Probability with which training blanks a modality.
        rescaling: Factor on the pixels; `None` takes them as they come.
        dtype: Dtype policy of the network; heads are float32.
        name: Name of the model.
        trainable: Whether the weights are trained.

    Call arguments:
        inputs: Dict of images `(batch, height, width, channels)`, pixels 0..255. An
            image of zeros counts as absent.

    Returns:
        Dict of float32 probabilities `(batch, height, width, classes)` keyed by task.

    Example:
    ```python
    model = DRIFASegNet(
        modalities=dict.fromkeys(("flair", "t1", "t1ce", "t2"), (128, 128, 1)),
        tasks={"tumor": 4},
    )
    ```
    """

    def __init__(
        self,
        modalities,
        tasks,
        mfa=True,
        mifa=True,
        fusion="last",
        dropout=0.25,
        *,
        skips=True,
        filters=(64, 128, 256, 512, 512),
        convolutions=(2, 2, 3, 3, 3),
        norm_momentum=0.99,
        modality_dropout=0.0,
        rescaling=1 / 255,
        dtype=None,
        name=None,
        trainable=True,
    ):
        check_choice("fusion", fusion, ("last", "every_stage"))
        policy = keras.dtype_policies.get(dtype)
        stages = SegNetStages(
            filters, convolutions, dropout, norm_momentum, policy, skips
        )
        check_divisible(modalities, len(stages))
        gate = optional(MFA, mfa, MFA_ARGUMENTS)
        fuse = optional(MIFA, mifa, MIFA_ARGUMENTS)

        # === Functional model ===
        inputs, streams, presence = self.open_streams(
            modalities, modality_dropout, rescaling, policy
        )

        def behind_convolutions(modality, stage, x):
            return gate(dtype=policy, name=f"{modality}_stage{stage}_mfa")(x)

        def behind_pooling(stage, streams):
            if stage < len(stages) - 1 and fusion == "last":
                return streams
            fused = fuse(dtype=policy, name=f"mifa_stage{stage}")(
                list(streams.values()), presence=presence
            )
            return dict(zip(streams, fused, strict=True))

        streams, memories = stages.encode_all(
            streams,
            gate=None if gate is None else behind_convolutions,
            fuse=None if fuse is None else behind_pooling,
        )
        x = stages.decode(stages.join(streams, presence), memories, presence)
        super().__init__(
            inputs,
            x,
            modalities,
            tasks,
            modality_dropout=modality_dropout,
            rescaling=rescaling,
            dtype=policy,
            name=name,
            trainable=trainable,
        )

        # === Config ===
        self.mfa = as_switch(mfa)
        self.mifa = as_switch(mifa)
        self.fusion = fusion
        self.skips = skips
        self.dropout = dropout
        self.filters = stages.filters
        self.convolutions = stages.numbers
        self.norm_momentum = norm_momentum

    def get_config(self):
        return {
            **super().get_config(),
            "mfa": as_switch(self.mfa),
            "mifa": as_switch(self.mifa),
            "fusion": self.fusion,
            "skips": self.skips,
            "dropout": self.dropout,
            "filters": list(self.filters),
            "convolutions": list(self.convolutions),
            "norm_momentum": self.norm_momentum,
        }
