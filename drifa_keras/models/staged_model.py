"""What DRIFA-Net and MAIL share: branches of stages that meet in a fusion."""

import functools
import inspect

import keras

from drifa_keras.layers import MCDropout, StreamConcatenate
from drifa_keras.models.multimodal_model import MultimodalModel, check_modalities

_BLOCKS_PER_STAGE = 2
_FUSIONS = ("last", "every_stage", "every_block")
_STEMS = ("resnet", "small")


class StagedModel(MultimodalModel):
    """One branch a modality, a stem and stages of two blocks, joined by fusions.

    The streams are concatenated in the end, pooled, and read by one softmax head a
    task. A subclass says what the blocks, gates and fusions are, each as a
    `functools.partial` of a layer class, which is called with `dtype` and `name`.

    Args:
        modalities: Dict of modality name to image shape.
        tasks: Dict of task name to number of classes.
        block: Partial of a block, called with `filters`, `strides` and
            `norm_momentum`, too.
        fuse: Partial of a fusion layer, or `None`.
        gate: Partial of a layer that follows the convolution of the stem and every
            block, or `None`.
        final_gate: Whether a gate follows the very last block.
        fused_dropout: Whether dropout follows the concatenation.
        fusion: Where the streams meet: `"last"` (after the last block),
            `"every_stage"` or `"every_block"`.
        dropout: Rate of every dropout layer; 0 leaves them out.
        filters: Channels of each stage.
        stem: `"resnet"` or `"small"`.
        dropout_after: Stages, or pairs (stage, block), that dropout follows.
        norm_momentum: Momentum of the running statistics of batch normalisation.
        modality_dropout: As in `MultimodalModel`.
        rescaling: As in `MultimodalModel`.
        dtype: As in `MultimodalModel`.
        **kwargs: `name` and `trainable`.
    """

    def __init__(
        self,
        modalities,
        tasks,
        *,
        block,
        fuse,
        gate=None,
        final_gate=True,
        fused_dropout=True,
        fusion,
        dropout,
        filters,
        stem,
        dropout_after,
        norm_momentum,
        modality_dropout,
        rescaling,
        dtype,
        **kwargs,
    ):
        _check_known(type(self), kwargs)
        modalities = check_modalities(modalities)
        check_choice("fusion", fusion, _FUSIONS)
        check_choice("stem", stem, _STEMS)
        filters = tuple(filters)
        if not filters or any(not isinstance(f, int) or f < 1 for f in filters):
            raise ValueError(
                "`filters` must hold a positive number of channels for each stage. "
                f"Received: filters={filters}."
            )
        dropout_after = tuple(
            tuple(place) if isinstance(place, (list, tuple)) else place
            for place in dropout_after
        )
        dropout_blocks = _blocks_with_dropout(dropout_after, len(filters))
        policy = keras.dtype_policies.get(dtype)

        # === Functional model ===
        inputs, streams, presence = self.open_streams(
            modalities, modality_dropout, rescaling, policy
        )
        streams = {
            name: _stem(x, name, stem, filters[0], gate, norm_momentum, policy)
            for name, x in streams.items()
        }
        last = (len(filters) - 1, _BLOCKS_PER_STAGE - 1)
        for place in _places(len(filters)):
            stage, index = place
            for name, x in streams.items():
                prefix = f"{name}_stage{stage}_block{index}"
                x = block(
                    filters[stage],
                    strides=2 if stage > 0 and index == 0 else 1,
                    norm_momentum=norm_momentum,
                    dtype=policy,
                    name=prefix,
                )(x)
                if dropout and place in dropout_blocks:
                    x = MCDropout(dropout, dtype=policy, name=f"{prefix}_dropout")(x)
                if gate is not None and (final_gate or place != last):
                    x = gate(dtype=policy, name=f"{prefix}_{_name_of(gate)}")(x)
                streams[name] = x
            _check_equal_maps(streams)
            if fuse is not None and _fuses(fusion, place, last):
                fused = fuse(
                    dtype=policy, name=f"{_name_of(fuse)}_stage{stage}_block{index}"
                )(list(streams.values()), presence=presence)
                streams = dict(zip(streams, fused, strict=True))
        x = StreamConcatenate(dtype=policy, name="fused_streams")(
            list(streams.values()), presence=presence
        )
        if dropout and fused_dropout:
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
        self.fusion = fusion
        self.dropout = dropout
        self.filters = filters
        self.stem = stem
        self.dropout_after = dropout_after
        self.norm_momentum = norm_momentum

    def get_config(self):
        return {
            **super().get_config(),
            "fusion": self.fusion,
            "dropout": self.dropout,
            "filters": list(self.filters),
            "stem": self.stem,
            "dropout_after": [
                list(place) if isinstance(place, tuple) else place
                for place in self.dropout_after
            ],
            "norm_momentum": self.norm_momentum,
        }


def check_choice(argument, value, choices):
    """Raises a `ValueError` unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(
            f"`{argument}` must be one of {list(choices)}. Received: "
            f"{argument}={value!r}."
        )


def optional(cls, value, allowed, **common):
    """Returns a partial of a module, or `None` where it is left out.

    Args:
        cls: The layer class; the network's argument has its name in lower case.
        value: What the network was given: `True`, `False` or a dict of arguments.
        allowed: Names of the arguments that such a dict may hold.
        **common: Arguments that hold in any case.
    """
    if isinstance(value, dict):
        unknown = sorted(set(value) - {*allowed, "kernel_initializer"})
        if unknown:
            raise ValueError(
                f"`{cls.__name__.lower()}` takes True, False or a dict of "
                f"{list(allowed)}. Received the unknown key {unknown[0]!r}."
            )
        return functools.partial(cls, **common, **value)
    return functools.partial(cls, **common) if value else None


def as_switch(value):
    """Such an argument as it is kept and serialised: a copy of the dict, or a bool."""
    return dict(value) if isinstance(value, dict) else bool(value)


def _check_known(cls, arguments):
    unknown = sorted(set(arguments) - {"name", "trainable"})
    if unknown:
        known = dict.fromkeys(
            name
            for base in cls.__mro__[: cls.__mro__.index(StagedModel)]
            for name in list(inspect.signature(base).parameters)[:-1]
        )
        raise ValueError(
            f"Unknown argument {unknown[0]!r} of {cls.__name__}. Known are "
            f"{list(known)}, `name` and `trainable`."
        )


def _places(stages):
    return [(s, b) for s in range(stages) for b in range(_BLOCKS_PER_STAGE)]


def _fuses(fusion, place, last):
    if fusion == "every_block":
        return True
    if fusion == "every_stage":
        return place[1] == last[1]
    return place == last


def _name_of(part):
    return part.func.__name__.lower()


def _stem(x, name, stem, filters, gate, norm_momentum, policy):
    """Convolution, gate, BN, ReLU and a pool, as in the released code."""
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
    if gate is not None:
        x = gate(dtype=policy, name=f"{name}_stem_{_name_of(gate)}")(x)
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
