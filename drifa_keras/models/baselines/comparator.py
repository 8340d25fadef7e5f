"""What the comparators share: plain backbones, whatever joins them, and the heads."""

import keras

from drifa_keras.models.backbones import ResNet, check_choice, cut_inception, drop
from drifa_keras.models.multimodal_model import MultimodalModel, check_modalities


class Comparator(MultimodalModel):
    """The backbone of `DRIFANet` without attention, and a fusion.

    Args:
        modalities: As in `MultimodalModel`.
        tasks: As in `MultimodalModel`.
        network: Function `(branches, streams, presence, dtype policy) -> features`,
            with the `ResNet` or `CutBackbone` that makes the branches, the dict of the
            streams by modality, and the features as `MultimodalModel` takes them.
        backbone: `"resnet18"` or `"inception_v3"` (images of 75 px or more).
        branch_modality: Dict of the name of each branch to the modality that it reads;
            a branch for each modality by default.
        filters: Channels of each stage (`"resnet18"`).
        stem: As in `DRIFANet` (`"resnet18"`).
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
        network,
        *,
        backbone="resnet18",
        branch_modality=None,
        filters=(64, 128, 256, 512),
        stem="resnet",
        norm_momentum=0.99,
        modality_dropout=0.0,
        rescaling=1 / 255,
        dtype=None,
        **kwargs,
    ):
        policy = keras.dtype_policies.get(dtype)
        check_choice("backbone", backbone, ("resnet18", "inception_v3"))
        if backbone == "resnet18":
            branches = ResNet(filters, stem, norm_momentum=norm_momentum, dtype=policy)
        else:
            shapes = check_modalities(modalities)
            if branch_modality is not None:
                shapes = {
                    branch: shapes[name] for branch, name in branch_modality.items()
                }
            branches = cut_inception(
                shapes,
                rescaling=rescaling,
                norm_momentum=norm_momentum,
                dtype=policy,
            )
        inputs, streams, presence = self.open_streams(
            modalities, modality_dropout, rescaling, policy
        )
        super().__init__(
            inputs,
            network(branches, streams, presence, policy),
            modalities,
            tasks,
            modality_dropout=modality_dropout,
            rescaling=rescaling,
            dtype=policy,
            **kwargs,
        )
        self.backbone = backbone
        self.filters = tuple(filters)
        self.stem = stem
        self.norm_momentum = norm_momentum

    def get_config(self):
        return {
            **super().get_config(),
            "backbone": self.backbone,
            "filters": list(self.filters),
            "stem": self.stem,
            "norm_momentum": self.norm_momentum,
        }


def grow_stage(branches, name, stage, x, dropout=0.0, after=(), dtype=None):
    """The blocks of a stage of a branch, applied to the map before it.

    Args:
        branches: The `ResNet` or `CutBackbone`.
        name: Name of the branch.
        stage: Number of the stage.
        x: The map.
        dropout: Rate of dropout.
        after: Blocks that dropout follows, as pairs (stage, block).
        dtype: Dtype policy of dropout.
    """
    for place in branches.places:
        if place[0] != stage:
            continue
        x = branches.grow(name, place, x)
        if place in after:
            x = drop(x, dropout, branches.prefix(name, place), dtype)
    return x


def encode(branches, name, x, dropout=0.0, after=(), dtype=None):
    """A whole branch: the maps at the ends of its stages, as `grow_stage` makes them.

    A decoder reads them all.
    """
    x = branches.open(name, x)
    maps = []
    for stage in range(len(branches)):
        x = grow_stage(branches, name, stage, x, dropout, after, dtype)
        maps.append(x)
    return maps


def pooled(name, x, dtype):
    """The mean over a map, as a map of one cell."""
    return keras.layers.GlobalAveragePooling2D(
        data_format="channels_last", keepdims=True, dtype=dtype, name=f"{name}_pooled"
    )(x)


def pointwise(units, name, dtype, use_bias=True):
    """A 1x1 convolution."""
    return keras.layers.Conv2D(
        units,
        1,
        use_bias=use_bias,
        data_format="channels_last",
        dtype=dtype,
        name=name,
    )


def require_several(cls, modalities, alternative="SingleModalityNet"):
    """Raises a `ValueError` if there is nothing to fuse."""
    if len(check_modalities(modalities)) < 2:
        raise ValueError(
            f"{cls.__name__} fuses at least two modalities. Received: "
            f"{list(modalities)}. Use `{alternative}` for one."
        )
