"""GLoRIA, made a fusion of image modalities: a comparator."""

import keras

from drifa_keras.models.baselines.comparator import (
    Comparator,
    encode,
    pointwise,
    pooled,
    require_several,
)
from drifa_keras.models.baselines.global_alignment import GlobalAlignment
from drifa_keras.models.baselines.local_alignment import LocalAlignment
from drifa_keras.models.staged_model import join


@keras.saving.register_keras_serializable(package="drifa_keras")
class GLoRIAFusion(Comparator):
    """Global and local representations that attend to one another, after GLoRIA.

    An adaptation. GLoRIA learns from images and reports; the DRIFA paper compares with
    it on pairs of images, and says neither how nor with what code. So this reproduces
    no row of its tables.

    Theirs: global representations from the last map and local ones from the map
    before it, both projected to one width; the attention with its double softmax and
    its temperatures; the local and the global contrastive loss. Ours: an image
    modality in place of the text, in both roles for every ordered pair of modalities;
    the ResNet of `DRIFANet`; the fused features, which are the global representation
    of each modality and the mean over its cells of what they found in the others; the
    dropout; training in one go, where GLoRIA trains a classifier on features that
    were learned from the contrast alone.

    Reference: Huang et al., *GLoRIA: A Multimodal Global-Local Representation
    Learning Framework for Label-efficient Medical Image Recognition*, ICCV 2021;
    github.com/marshuang80/gloria.

    Args:
        modalities: Dict of at least two modality names to image shapes `(height,
            width, channels)`, with 1 or 3 channels.
        tasks: Dict of task name to number of classes.
        units: Width of the representations.
        contrastive_weight: Weight of the two contrastive losses in training. They ask
            that the images of a row belong together: leave it 0 where partners are
            drawn at random, and try 0.1 where modalities are aligned, with batches of
            at most 32.
        dropout: Rate of the dropout before the heads; 0 leaves it out.
        **kwargs: `backbone` (`"resnet18"` or `"inception_v3"`), `filters` (of at least
            two stages), `stem` and `norm_momentum` as in
            `DRIFANet`; `modality_dropout`, `rescaling`, `dtype`, `name` and
            `trainable` as in `MultimodalModel`.

    Call arguments:
        inputs: Dict of images `(batch, height, width, channels)`, pixels 0..255. An
            image of zeros counts as absent.

    Returns:
        Dict of float32 probabilities `(batch, classes)` keyed by task.
    """

    def __init__(
        self,
        modalities,
        tasks,
        units=256,
        contrastive_weight=0.0,
        dropout=0.25,
        **kwargs,
    ):
        require_several(type(self), modalities)
        check_weight(contrastive_weight)

        def network(branches, streams, presence, dtype):
            if len(branches) < 2:
                raise ValueError(
                    "`filters` needs two stages or more: local representations come "
                    f"from the last but one. Received: filters={branches.filters}."
                )
            local, whole = {}, {}
            for name, x in streams.items():
                *_, before, last = encode(branches, name, x)
                local[name] = pointwise(units, f"{name}_local", dtype, use_bias=False)(
                    before
                )
                whole[name] = keras.layers.Dense(
                    units, dtype=dtype, name=f"{name}_global"
                )(pooled(name, last, dtype))
            contexts = LocalAlignment(
                weight=contrastive_weight, dtype=dtype, name="local_alignment"
            )(list(local.values()), presence=presence)
            descriptors = list(whole.values())
            if contrastive_weight:
                descriptors = GlobalAlignment(
                    contrastive_weight, dtype=dtype, name="global_alignment"
                )(descriptors, presence=presence)
            parts = {}
            for name, own, found in zip(whole, descriptors, contexts, strict=True):
                found = pooled(f"{name}_context", found, dtype)
                parts[name] = keras.layers.Concatenate(
                    dtype=dtype, name=f"{name}_features"
                )([own, found])
            return join(parts, presence, dropout, dtype)

        super().__init__(modalities, tasks, network, **kwargs)
        self.units = units
        self.contrastive_weight = contrastive_weight
        self.dropout = dropout

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "contrastive_weight": self.contrastive_weight,
            "dropout": self.dropout,
        }


def check_weight(contrastive_weight):
    """Raises a `ValueError` if the weight of the contrast is negative."""
    if contrastive_weight < 0:
        raise ValueError(
            "`contrastive_weight` must not be negative. Received: "
            f"{contrastive_weight}."
        )
