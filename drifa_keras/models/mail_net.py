"""MAIL: Fig. 2."""

import functools

import keras

from drifa_keras.layers import EMCAM, ERLABlock
from drifa_keras.models.backbones import ResNet
from drifa_keras.models.staged_model import StagedModel, as_switch, optional


@keras.saving.register_keras_serializable(package="drifa_keras")
class MAILNet(StagedModel):
    """MAIL, for any number of modalities and tasks.

    One branch a modality: a stem, then stages of two `ERLABlock`s. After each stage
    `EMCAM` lets the branches gate one another; the streams are concatenated, pooled,
    and read by one softmax head a task.

    Built after the authors' code and the figures of the paper. Where the code has
    quirks the defaults differ; `released=True` and the preset `mail_released` keep
    them. `RobustMAILNet` is the robust extension.

    Reference: Dhar et al., *Effective and Robust Multimodal Medical Image Analysis*,
    KDD 2026, Fig. 2.

    Args:
        modalities: Dict of modality name to image shape `(height, width,
            channels)`, with 1 or 3 channels. Sizes must lead to equal maps.
        tasks: Dict of task name to number of classes.
        emcam: `True`, `False` (the branches meet in the concatenation alone) or a
            dict of the arguments `mfifa`, `emsca` and `dct` of `EMCAM`.
        fusion: Where `EMCAM` stands: `"every_stage"`, `"last"` (after the last
            block) or `"every_block"`.
        dropout: Rate of every dropout layer; 0 leaves them out.
        released: Whether all layers take the form of the released code.
        random_ratio: Share of random filters in `MSGDC`, from 0 (none, MAIL) to below
            1.
        noise_stddev: Standard deviation of `AttentionNoise`, 0 (none, MAIL) or more.
        groups: Number of groups of `MSGDC`, a divisor of all `filters`.
        filters: Channels of each stage; as many stages as entries.
        stem: `"resnet"` (7x7 convolution of stride 2, then a pool of stride 2) or
            `"small"` (3x3 of stride 1, then a pool of stride 2), for images of 32
            to 64 px.
        dropout_after: Where dropout stands: a stage `s`, for the end of that stage, or
            a pair `(s, b)` for a block of it, counted from 0. It comes before `EMCAM`.
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
    model = MAILNet(
        modalities={"dermoscopy": (128, 128, 3), "mri": (128, 128, 1)},
        tasks={"skin_lesion": 7, "tumor": 4},
    )
    ```
    """

    def __init__(
        self,
        modalities,
        tasks,
        emcam=True,
        fusion="every_stage",
        dropout=0.25,
        *,
        released=False,
        random_ratio=0.0,
        noise_stddev=0.0,
        groups=16,
        filters=(64, 128, 256, 512),
        stem="resnet",
        dropout_after=((1, 0), (2, 0), (3, 0)),
        norm_momentum=0.99,
        modality_dropout=0.0,
        rescaling=1 / 255,
        dtype=None,
        **kwargs,
    ):
        common = {
            "groups": groups,
            "released": released,
            "random_ratio": random_ratio,
            "noise_stddev": noise_stddev,
        }
        super().__init__(
            modalities,
            tasks,
            branches=ResNet(
                filters,
                stem,
                functools.partial(ERLABlock, **common),
                norm_momentum=norm_momentum,
                dtype=dtype,
            ),
            fuse=optional(EMCAM, emcam, ("mfifa", "emsca", "dct"), **common),
            fused_dropout=False,
            fusion=fusion,
            dropout=dropout,
            dropout_after=dropout_after,
            modality_dropout=modality_dropout,
            rescaling=rescaling,
            dtype=dtype,
            **kwargs,
        )

        # === Config ===
        self.emcam = as_switch(emcam)
        self.released = bool(released)
        self.random_ratio = random_ratio
        self.noise_stddev = noise_stddev
        self.groups = groups
        self.filters = tuple(filters)
        self.stem = stem
        self.norm_momentum = norm_momentum

    def get_config(self):
        return {
            **super().get_config(),
            "emcam": as_switch(self.emcam),
            "released": self.released,
            "random_ratio": self.random_ratio,
            "noise_stddev": self.noise_stddev,
            "groups": self.groups,
            "filters": list(self.filters),
            "stem": self.stem,
            "norm_momentum": self.norm_momentum,
        }
