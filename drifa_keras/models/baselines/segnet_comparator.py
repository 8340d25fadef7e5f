"""What the comparators of segmentation share: SegNets, and whatever joins them."""

import keras

from drifa_keras.models.baselines.comparator import require_several
from drifa_keras.models.encoder_decoder import SegNetStages, check_divisible
from drifa_keras.models.multimodal_model import MultimodalModel


class SegNetComparator(MultimodalModel):
    """The encoders and the decoder of `DRIFASegNet`, with another fusion.

    Args:
        modalities: As in `DRIFASegNet`; at least two.
        tasks: As in `DRIFASegNet`.
        network: Function `(stages, streams, presence, dtype policy)` of `SegNetStages`
            and the dict of the images by modality; returns the map and the memories
            that `SegNetStages.decode` takes.
        dropout: Rate of the dropout around the decoder; 0 leaves it out.
        skips: As in `DRIFASegNet`.
        filters: As in `DRIFASegNet`.
        convolutions: As in `DRIFASegNet`.
        norm_momentum: As in `DRIFASegNet`.
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
        dropout=0.25,
        skips=True,
        filters=(64, 128, 256, 512, 512),
        convolutions=(2, 2, 3, 3, 3),
        norm_momentum=0.99,
        modality_dropout=0.0,
        rescaling=1 / 255,
        dtype=None,
        **kwargs,
    ):
        require_several(type(self), modalities, alternative="SegNet")
        policy = keras.dtype_policies.get(dtype)
        stages = SegNetStages(
            filters, convolutions, dropout, norm_momentum, policy, skips
        )
        check_divisible(modalities, len(stages))
        inputs, streams, presence = self.open_streams(
            modalities, modality_dropout, rescaling, policy
        )
        x, memories = network(stages, streams, presence, policy)
        super().__init__(
            inputs,
            stages.decode(x, memories, presence),
            modalities,
            tasks,
            modality_dropout=modality_dropout,
            rescaling=rescaling,
            dtype=policy,
            **kwargs,
        )
        self.dropout = dropout
        self.skips = skips
        self.filters = stages.filters
        self.convolutions = stages.numbers
        self.norm_momentum = norm_momentum

    def get_config(self):
        return {
            **super().get_config(),
            "dropout": self.dropout,
            "skips": self.skips,
            "filters": list(self.filters),
            "convolutions": list(self.convolutions),
            "norm_momentum": self.norm_momentum,
        }
