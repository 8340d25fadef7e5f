"""The mutual attention of MTF with MA between the halves of SegNet: a comparator."""

import keras

from drifa_keras.models.baselines.comparator import pointwise
from drifa_keras.models.baselines.mtf_ma import mutual
from drifa_keras.models.baselines.segnet_comparator import SegNetComparator


@keras.saving.register_keras_serializable(package="drifa_keras")
class MTFMASegNet(SegNetComparator):
    """Tokens joined by blocks of mutual attention, decoded by SegNet.

    An adaptation: `MTFMA` says what is theirs. Ours: the encoders and the decoder of
    `DRIFASegNet`; the cells of the last pooled maps are the tokens, and what is
    decoded is the tokens of all modalities side by side.

    Reference: Cai et al., *A Multimodal Transformer to Fuse Images and Metadata for
    Skin Disease Classification*, The Visual Computer 39, 2023.

    Args:
        modalities: Dict of at least two modality names to image shapes `(height,
            width, channels)`, with 1 or 3 channels. All show the same case in the same
            place and have one size, divisible by 2 for each stage.
        tasks: Dict of task name to number of classes of its pixels, the background
            among them.
        units: Width of the tokens, divisible by `heads`.
        depth: Number of blocks.
        heads: Number of heads of the attention.
        transformer_dropout: Rate of the dropout in the blocks; 0 leaves it out.
        **kwargs: `dropout`, `skips`, `filters`, `convolutions` and `norm_momentum` as
            in `DRIFASegNet`; `modality_dropout`, `rescaling`, `dtype`, `name` and
            `trainable` as in `MultimodalModel`.

    Call arguments:
        inputs: Dict of images `(batch, height, width, channels)`, pixels 0..255. An
            image of zeros counts as absent.

    Returns:
        Dict of float32 probabilities `(batch, height, width, classes)` keyed by task.
    """

    def __init__(
        self,
        modalities,
        tasks,
        units=256,
        depth=2,
        heads=4,
        *,
        transformer_dropout=0.1,
        **kwargs,
    ):
        def network(stages, streams, presence, dtype):
            streams, memories = stages.encode_all(streams)
            tokens = {
                name: pointwise(units, f"{name}_tokens", dtype)(x)
                for name, x in streams.items()
            }
            for number in range(depth):
                tokens = mutual(
                    tokens, presence, number, heads, transformer_dropout, dtype
                )
            return stages.join(tokens, presence), memories

        super().__init__(modalities, tasks, network, **kwargs)
        self.units = units
        self.depth = depth
        self.heads = heads
        self.transformer_dropout = transformer_dropout

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "depth": self.depth,
            "heads": self.heads,
            "transformer_dropout": self.transformer_dropout,
        }
