"""CAF's co-attention and fusion in the encoders of SegNet: a comparator."""

import keras

from drifa_keras.models.backbones import drop
from drifa_keras.models.baselines.attention_fusion import AttentionFusion
from drifa_keras.models.baselines.caf_net import guide, refine
from drifa_keras.models.baselines.segnet_comparator import SegNetComparator


@keras.saving.register_keras_serializable(package="drifa_keras")
class CAFSegNet(SegNetComparator):
    """Encoders that guide one another, and a branch that fuses them, decoded by SegNet.

    An adaptation: `CAFNet` says what is CAF's. Ours: the encoders and the decoder of
    `DRIFASegNet`; the co-attention and the fusion stand behind the pooling of each
    stage, and what is decoded is the last map of the hyper-branch. Left out: the deep
    supervision and the combined prediction, for which every encoder would need a
    decoder of its own.

    Reference: He et al., *Co-Attention Fusion Network for Multimodal Skin Cancer
    Diagnosis*, Pattern Recognition 133, 2023.

    Args:
        modalities: Dict of at least two modality names to image shapes `(height,
            width, channels)`, with 1 or 3 channels. All show the same case in the same
            place and have one size, divisible by 2 for each stage.
        tasks: Dict of task name to number of classes of its pixels, the background
            among them.
        **kwargs: `dropout`, `skips`, `filters`, `convolutions` and `norm_momentum` as
            in `DRIFASegNet`; `modality_dropout`, `rescaling`, `dtype`, `name` and
            `trainable` as in `MultimodalModel`.

    Call arguments:
        inputs: Dict of images `(batch, height, width, channels)`, pixels 0..255. An
            image of zeros counts as absent.

    Returns:
        Dict of float32 probabilities `(batch, height, width, classes)` keyed by task.
    """

    def __init__(self, modalities, tasks, **kwargs):
        def network(stages, streams, presence, dtype):
            hyper = []

            def fuse(stage, streams):
                guided = guide(streams, presence, stage, dtype)
                fused = AttentionFusion(dtype=dtype, name=f"fusion_stage{stage}")(
                    list(guided.values()), presence=presence
                )
                before = hyper[-1] if hyper else None
                hyper.append(refine(fused, before, stage, stages.momentum, dtype))
                return guided

            _, memories = stages.encode_all(streams, fuse=fuse)
            return drop(hyper[-1], stages.dropout, "fused", dtype), memories

        super().__init__(modalities, tasks, network, **kwargs)
