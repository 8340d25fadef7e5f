"""What DRIFA-Net and MAIL share: branches of stages that meet in a fusion."""

import functools
import inspect

import keras

from drifa_keras.layers import StreamConcatenate
from drifa_keras.models.backbones import check_choice, drop, name_of
from drifa_keras.models.multimodal_model import MultimodalModel, check_modalities

_FUSIONS = ("last", "every_stage", "every_block")


class StagedModel(MultimodalModel):
    """One branch a modality, in stages of blocks, joined by fusions.

    The streams are concatenated in the end, pooled, and read by one softmax head a
    task. A subclass says what the blocks, gates and fusions are, each as a
    `functools.partial` of a layer class, which is called with `dtype` and `name`.

    Args:
        modalities: Dict of modality name to image shape.
        tasks: Dict of task name to number of classes.
        branches: What makes the maps of the modalities: `ResNet` or `CutBackbone`.
        fuse: Partial of a fusion layer, or `None`.
        gate: Partial of a layer that follows every block, or `None`.
        final_gate: Whether a gate follows the very last block.
        fused_dropout: Whether dropout follows the concatenation.
        fusion: Where the streams meet: `"last"` (after the last block),
            `"every_stage"` or `"every_block"`.
        dropout: Rate of every dropout layer; 0 leaves them out.
        dropout_after: Stages, or pairs (stage, block), that dropout follows; `None`
            for the stages 1 and 2, counted from 0, where they are.
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
        branches,
        fuse,
        gate=None,
        final_gate=True,
        fused_dropout=True,
        fusion,
        dropout,
        dropout_after,
        modality_dropout,
        rescaling,
        dtype,
        **kwargs,
    ):
        _check_known(type(self), kwargs)
        modalities = check_modalities(modalities)
        check_choice("fusion", fusion, _FUSIONS)
        dropout_after, dropout_blocks = blocks_with_dropout(
            dropout_after, branches.places
        )
        policy = keras.dtype_policies.get(dtype)

        # === Functional model ===
        inputs, streams, presence = self.open_streams(
            modalities, modality_dropout, rescaling, policy
        )
        streams = {name: branches.open(name, x) for name, x in streams.items()}
        last = branches.places[-1]
        for place in branches.places:
            for name, x in streams.items():
                prefix = branches.prefix(name, place)
                x = branches.grow(name, place, x)
                if place in dropout_blocks:
                    x = drop(x, dropout, prefix, policy)
                if gate is not None and (final_gate or place != last):
                    x = gate(dtype=policy, name=f"{prefix}_{name_of(gate)}")(x)
                streams[name] = x
            if fuse is not None and _fuses(fusion, place, branches.places):
                _check_equal_maps(streams)
                fused = fuse(dtype=policy, name=branches.prefix(name_of(fuse), place))(
                    list(streams.values()), presence=presence
                )
                streams = dict(zip(streams, fused, strict=True))
        _check_equal_maps(streams)
        super().__init__(
            inputs,
            join(streams, presence, dropout if fused_dropout else 0, policy),
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
        self.dropout_after = dropout_after

    def get_config(self):
        return {
            **super().get_config(),
            "fusion": self.fusion,
            "dropout": self.dropout,
            "dropout_after": plain(self.dropout_after),
        }


def join(streams, presence, dropout, dtype, name="fused"):
    """The features of all streams side by side, absent ones as zeros.

    Args:
        streams: Dict of modality to its map.
        presence: 0/1 tensor `(batch, m)`, or `None`.
        dropout: Rate of the dropout before the pooling; 0 leaves it out.
        dtype: Dtype policy.
        name: Beginning of the names of the layers.

    Returns:
        Tensor `(batch, m * channels)`, float32.
    """
    x = StreamConcatenate(dtype=dtype, name=f"{name}_streams")(
        list(streams.values()), presence=presence
    )
    x = drop(x, dropout, name, dtype)
    return keras.layers.GlobalAveragePooling2D(
        data_format="channels_last", dtype="float32", name=f"{name}_features"
    )(x)


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


def plain(value):
    """A value as JSON has it, without what Keras adds to what it keeps and loads."""
    if isinstance(value, dict):
        return {
            key: plain(item) for key, item in value.items() if key != "shared_object_id"
        }
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


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


def _fuses(fusion, place, places):
    if fusion == "every_block":
        return True
    if fusion == "every_stage":
        return place == [other for other in places if other[0] == place[0]][-1]
    return place == places[-1]


def blocks_with_dropout(dropout_after, places):
    """Finds the blocks that dropout follows.

    Args:
        dropout_after: Stages, or pairs (stage, block); `None` for the stages 1 and 2,
            counted from 0, where they are.
        places: All blocks, as pairs (stage, block).

    Returns:
        `dropout_after` as a tuple, and the set of blocks.
    """
    if dropout_after is None:
        dropout_after = sorted({stage for stage, _ in places} & {1, 2})
    dropout_after = tuple(
        tuple(place) if isinstance(place, (list, tuple)) else place
        for place in dropout_after
    )
    blocks = set()
    for entry in dropout_after:
        of_stage = [place for place in places if place[0] == entry]
        place = entry if isinstance(entry, tuple) else (of_stage or [None])[-1]
        if place not in places:
            stages, blocks_of_stage = (
                1 + max(numbers) for numbers in zip(*places, strict=True)
            )
            raise ValueError(
                f"`dropout_after` names stages 0..{stages - 1} or pairs (stage, block "
                f"0..{blocks_of_stage - 1}). Received: {entry!r}."
            )
        blocks.add(place)
    return dropout_after, blocks


def _check_equal_maps(streams):
    shapes = {name: tuple(x.shape[1:]) for name, x in streams.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(
            "Maps that meet in a fusion must be of equal size and have as many "
            f"channels. Received (height, width, channels): {listed}. Give the "
            "modalities equal image sizes (readers and `drifa_keras.data` resize) and "
            "backbones that end with as many channels."
        )
