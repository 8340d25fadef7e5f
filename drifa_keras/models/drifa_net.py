"""DRIFA-Net: Fig. 1 and Algorithm 1."""

import inspect

import keras

from drifa_keras.layers import MFA, MIFA, MCDropout, RRABlock, StreamConcatenate
from drifa_keras.models.multimodal_model import MultimodalModel, check_modalities

_BLOCKS_PER_STAGE = 2
_FUSIONS = ("last", "every_stage", "every_block")
_STEMS = ("resnet", "small")


@keras.saving.register_keras_serializable(package="drifa_keras")
class DRIFANet(MultimodalModel):
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
        modalities = check_modalities(modalities)
        _check_choice("backbone", backbone, ("resnet18",))
        _check_choice("fusion", fusion, _FUSIONS)
        _check_choice("stem", stem, _STEMS)
        filters = tuple(filters)
        if not filters or any(not isinstance(f, int) or f < 1 for f in filters):
            raise ValueError(
                "`filters` must hold a positive number of channels for each stage. "
                f"Received: filters={filters}."
            )
        unknown = sorted(set(kwargs) - {"name", "trainable"})
        if unknown:
            known = list(inspect.signature(DRIFANet).parameters)[:-1]
            raise ValueError(
                f"Unknown argument {unknown[0]!r} of DRIFANet. Known are {known}, "
                "`name` and `trainable`."
            )
        dropout_after = tuple(
            tuple(place) if isinstance(place, (list, tuple)) else place
            for place in dropout_after
        )
        dropout_blocks = _blocks_with_dropout(dropout_after, len(filters))
        mfa_arguments = _attention_arguments("mfa", mfa)
        mifa_arguments = _attention_arguments("mifa", mifa)
        policy = keras.dtype_policies.get(dtype)

        # === Functional model ===
        inputs, streams, presence = self.open_streams(
            modalities, modality_dropout, rescaling, policy
        )
        streams = {
            name: _stem(x, name, stem, filters[0], mfa_arguments, norm_momentum, policy)
            for name, x in streams.items()
        }
        last = (len(filters) - 1, _BLOCKS_PER_STAGE - 1)
        for place in _places(len(filters)):
            stage, block = place
            for name, x in streams.items():
                prefix = f"{name}_stage{stage}_block{block}"
                x = RRABlock(
                    filters[stage],
                    strides=2 if stage > 0 and block == 0 else 1,
                    mfa=mfa,
                    norm_momentum=norm_momentum,
                    dtype=policy,
                    name=prefix,
                )(x)
                if dropout and place in dropout_blocks:
                    x = MCDropout(dropout, dtype=policy, name=f"{prefix}_dropout")(x)
                if mfa_arguments is not None and (final_mfa or place != last):
                    x = MFA(**mfa_arguments, dtype=policy, name=f"{prefix}_mfa")(x)
                streams[name] = x
            _check_equal_maps(streams)
            if mifa_arguments is not None and _fuses(fusion, place, last):
                fused = MIFA(
                    **mifa_arguments,
                    dtype=policy,
                    name=f"mifa_stage{stage}_block{block}",
                )(list(streams.values()), presence=presence)
                streams = dict(zip(streams, fused, strict=True))
        x = StreamConcatenate(dtype=policy, name="fused_streams")(
            list(streams.values()), presence=presence
        )
        if dropout:
            x = MCDropout(dropout, dtype=policy, name="fused_dropout")(x)
        x = keras.layers.GlobalAveragePooling2D(
            data_format="channels_last", dtype="float32", name="fused_features"
        )(x)
        super().__init__(
            inputs,
            x,
            modalities,
            tasks,
            modality_dropout=modality_dropout,
            rescaling=rescaling,
            dtype=policy,
            **kwargs,
        )

        # === Config ===
        self.backbone = backbone
        self.mfa = dict(mfa) if isinstance(mfa, dict) else bool(mfa)
        self.mifa = dict(mifa) if isinstance(mifa, dict) else bool(mifa)
        self.fusion = fusion
        self.dropout = dropout
        self.filters = filters
        self.stem = stem
        self.dropout_after = dropout_after
        self.final_mfa = bool(final_mfa)
        self.norm_momentum = norm_momentum

    @classmethod
    def from_preset(cls, preset, modalities, tasks, **overrides):
        """Builds the network of a named preset, with fresh weights.

        Args:
            preset: Name of a preset; `drifa_keras.models.presets()` lists them.
            modalities: As for the constructor.
            tasks: As for the constructor.
            **overrides: Arguments that replace those of the preset.

        Returns:
            A `DRIFANet`.
        """
        from drifa_keras.models.presets import preset_arguments

        arguments = preset_arguments(preset, cls)
        return cls(modalities, tasks, **{**arguments, **overrides})

    def get_config(self):
        return {
            **super().get_config(),
            "backbone": self.backbone,
            "mfa": dict(self.mfa) if isinstance(self.mfa, dict) else self.mfa,
            "mifa": dict(self.mifa) if isinstance(self.mifa, dict) else self.mifa,
            "fusion": self.fusion,
            "dropout": self.dropout,
            "filters": list(self.filters),
            "stem": self.stem,
            "dropout_after": [
                list(place) if isinstance(place, tuple) else place
                for place in self.dropout_after
            ],
            "final_mfa": self.final_mfa,
            "norm_momentum": self.norm_momentum,
        }


def _places(stages):
    return [(s, b) for s in range(stages) for b in range(_BLOCKS_PER_STAGE)]


def _fuses(fusion, place, last):
    if fusion == "every_block":
        return True
    if fusion == "every_stage":
        return place[1] == last[1]
    return place == last


def _stem(x, name, stem, filters, mfa_arguments, norm_momentum, policy):
    """Convolution, MFA, BN, ReLU and a pool, as in the released code."""
    kernel_size, strides = (7, 2) if stem == "resnet" else (3, 1)
    x = keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        data_format="channels_last",
        dtype=policy,
        name=f"{name}_stem_conv",
    )(x)
    if mfa_arguments is not None:
        x = MFA(**mfa_arguments, dtype=policy, name=f"{name}_stem_mfa")(x)
    x = keras.layers.BatchNormalization(
        momentum=norm_momentum, dtype=policy, name=f"{name}_stem_norm"
    )(x)
    x = keras.layers.ReLU(dtype=policy, name=f"{name}_stem_relu")(x)
    return keras.layers.MaxPooling2D(
        3,
        strides=2,
        padding="same",
        data_format="channels_last",
        dtype=policy,
        name=f"{name}_stem_pool",
    )(x)


def _check_choice(argument, value, choices):
    if value not in choices:
        raise ValueError(
            f"`{argument}` must be one of {list(choices)}. Received: "
            f"{argument}={value!r}."
        )


def _attention_arguments(argument, value):
    """Returns the arguments of MFA or MIFA, or `None` where it is left out."""
    if isinstance(value, dict):
        allowed = {
            "mfa": ("hifa", "clia", "omega_d", "omega_l", "omega_c", "activation"),
            "mifa": (
                "mgifa",
                "mlifa",
                "omega_d",
                "omega_l",
                "omega_c",
                "local_window",
                "shared_fc",
            ),
        }[argument]
        unknown = sorted(set(value) - {*allowed, "kernel_initializer"})
        if unknown:
            raise ValueError(
                f"`{argument}` takes True, False or a dict of {list(allowed)}. "
                f"Received the unknown key {unknown[0]!r}."
            )
        return dict(value)
    return {} if value else None


def _blocks_with_dropout(dropout_after, stages):
    blocks = set()
    for entry in dropout_after:
        place = entry if isinstance(entry, tuple) else (entry, _BLOCKS_PER_STAGE - 1)
        if place not in _places(stages):
            raise ValueError(
                f"`dropout_after` names stages 0..{stages - 1} or pairs (stage, block "
                f"0..{_BLOCKS_PER_STAGE - 1}). Received: {entry!r}."
            )
        blocks.add(place)
    return blocks


def _check_equal_maps(streams):
    sizes = {name: tuple(x.shape[1:3]) for name, x in streams.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise ValueError(
            f"Maps that meet in a fusion must be of equal size. Received: {listed}. "
            "Give the modalities equal image sizes; readers and `drifa_keras.data` "
            "resize."
        )
