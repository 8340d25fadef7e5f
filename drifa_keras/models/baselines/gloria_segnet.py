"""GLoRIA's local attention between the halves of SegNet: a comparator."""

import keras

from drifa_keras.models.baselines.comparator import pointwise
from drifa_keras.models.baselines.gloria_fusion import check_weight
from drifa_keras.models.baselines.local_alignment import LocalAlignment
from drifa_keras.models.baselines.segnet_comparator import SegNetComparator


@keras.saving.register_keras_serializable(package="drifa_keras")
class GLoRIASegNet(SegNetComparator):
    """Local representations that attend to one another, decoded by SegNet.

    An adaptation: `GLoRIAFusion` says what is GLoRIA's. Ours: the encoders and the
    decoder of `DRIFASegNet`, and what is decoded, the local representations of each
    modality beside what they found in the others. Left out: the global
    representations, which have no place in a map, and their contrast.

    Reference: Huang et al., *GLoRIA: A Multimodal Global-Local Representation
    Learning Framework for Label-efficient Medical Image Recognition*, ICCV 2021;
    github.com/marshuang80/gloria.

    Args:
        modalities: Dict of at least two modality names to image shapes `(height,
            width, channels)`, with 1 or 3 channels. All show the same case in the same
            place and have one size, divisible by 2 for each stage.
        tasks: Dict of task name to number of classes of its pixels, the background
            among them.
        units: Width of the representations.
        contrastive_weight: Weight of the local contrastive loss in training, which
            takes memory and time of the order of (batch x cells of the last map)
            squared.
        **kwargs: `dropout`, `skips`, `filters`, `convolutions` and `norm_momentum` as
            in `DRIFASegNet`; `modality_dropout`, `rescaling`, `dtype`, `name` and
            `trainable` as in `MultimodalModel`.

    Call arguments:
        inputs: Dict of images `(batch, height, width, channels)`, pixels 0..255. An
            image of zeros counts as absent.

    Returns:
        Dict of float32 probabilities `(batch, height, width, classes)` keyed by task.
    """

    def __init__(self, modalities, tasks, units=256, contrastive_weight=0.0, **kwargs):
        check_weight(contrastive_weight)

        def network(stages, streams, presence, dtype):
            streams, memories = stages.encode_all(streams)
            local = {
                name: pointwise(units, f"{name}_local", dtype, use_bias=False)(x)
                for name, x in streams.items()
            }
            contexts = LocalAlignment(
                weight=contrastive_weight, dtype=dtype, name="local_alignment"
            )(list(local.values()), presence=presence)
            found = {
                name: keras.layers.Concatenate(dtype=dtype, name=f"{name}_found")(
                    [own, context]
                )
                for (name, own), context in zip(local.items(), contexts, strict=True)
            }
            return stages.join(found, presence), memories

        super().__init__(modalities, tasks, network, **kwargs)
        self.units = units
        self.contrastive_weight = contrastive_weight

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "contrastive_weight": self.contrastive_weight,
        }
