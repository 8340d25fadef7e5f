"""CAF, for any number of modalities and tasks: a comparator."""

import keras
from keras import ops

from drifa_keras.models.backbones import drop
from drifa_keras.models.baselines.attention_fusion import AttentionFusion
from drifa_keras.models.baselines.co_attention import CoAttention
from drifa_keras.models.baselines.combined_logits import CombinedLogits
from drifa_keras.models.baselines.combined_softmax import CombinedSoftmax
from drifa_keras.models.baselines.comparator import (
    Comparator,
    grow_stage,
    pooled,
    require_several,
)

_KEY_SIZE = 16


@keras.saving.register_keras_serializable(package="drifa_keras")
class CAFNet(Comparator):
    """Branches that guide one another, and one more that fuses them at every stage.

    An adaptation, of a description: no official code is known, and of the paper the
    abstract was at hand. The DRIFA paper compares with it on pairs of unrelated images,
    and says neither how nor with what code. So this reproduces no row of its tables.

    Theirs: two branches and a hyper-branch that fuses them at all stages; in each
    stage a co-attention block for mutual guidance, then a block that selects the
    ratio of the fusion pixel by pixel; deep supervision; a combined prediction. Ours:
    the formulas of `CoAttention` (queries and keys of an eighth of the channels; keys
    and values from maps of at most 16x16 cells) and `AttentionFusion`; the ResNet of
    `DRIFANet` in place of a ResNet-50; any number of modalities; the dropout before
    the heads; and the hyper-branch,

    ```
    H_k = conv3x3(ReLU(BN(F_k + conv3x3 of stride 2(H_{k-1}))))
    ```

    Every branch, the hyper-branch too, has a head for each task. The prediction is
    the mean of their probabilities, and the loss of a training step the mean of their
    losses, for which `compile` needs a cross-entropy. A head whose image is absent
    has no part in either. In training, outputs are the geometric mean over the heads
    (see `CombinedLogits`), which is what training accuracies are measured on.

    Mixing pixel by pixel supposes that modalities show the same place, which images of
    unrelated patients do not.

    Reference: He et al., *Co-Attention Fusion Network for Multimodal Skin Cancer
    Diagnosis*, Pattern Recognition 133, 2023.

    Args:
        modalities: Dict of at least two modality names to image shapes `(height,
            width, channels)`, with 1 or 3 channels, of equal height and width.
        tasks: Dict of task name to number of classes.
        dropout: Rate of the dropout before the heads; 0 leaves it out.
        **kwargs: `backbone` (`"resnet18"` or `"inception_v3"`), `filters`, `stem` and
            `norm_momentum` as in `DRIFANet`;
            `modality_dropout`, `rescaling`, `dtype`, `name` and `trainable` as in
            `MultimodalModel`.

    Call arguments:
        inputs: Dict of images `(batch, height, width, channels)`, pixels 0..255. An
            image of zeros counts as absent.

    Returns:
        Dict of float32 probabilities `(batch, classes)` keyed by task.
    """

    def __init__(
        self, modalities, tasks, dropout=0.25, *, norm_momentum=0.99, **kwargs
    ):
        require_several(type(self), modalities)

        def network(branches, streams, presence, dtype):
            streams = {name: branches.open(name, x) for name, x in streams.items()}
            hyper = None
            for stage in range(len(branches)):
                streams = {
                    name: grow_stage(branches, name, stage, x)
                    for name, x in streams.items()
                }
                streams = guide(streams, presence, stage, dtype)
                fused = AttentionFusion(dtype=dtype, name=f"fusion_stage{stage}")(
                    list(streams.values()), presence=presence
                )
                hyper = refine(fused, hyper, stage, norm_momentum, dtype)
            descriptors = {
                f"branch_{name}": _describe(x, f"branch_{name}", dropout, dtype)
                for name, x in streams.items()
            }
            descriptors["hyper"] = _describe(hyper, "hyper", dropout, dtype)
            return descriptors, presence

        super().__init__(
            modalities, tasks, network, norm_momentum=norm_momentum, **kwargs
        )
        self.dropout = dropout

    @staticmethod
    def make_head(task, classes, features):
        descriptors, presence = features
        logits = [
            keras.layers.Dense(
                classes, dtype="float32", name=f"{task}_{branch}_logits"
            )(x)
            for branch, x in descriptors.items()
        ]
        combined = CombinedLogits(name=f"{task}_logits")(logits, presence=presence)
        return CombinedSoftmax(name=f"{task}_head")(combined)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        if training:
            # What the geometric mean lacks to 1 is a class that is never right:
            # losses that normalise find nothing to do.
            y = {task: _widened(labels, y_pred[task]) for task, labels in y.items()}
            y_pred = {
                task: ops.concatenate(
                    [p, ops.maximum(1 - ops.sum(p, axis=-1, keepdims=True), 0)], axis=-1
                )
                for task, p in y_pred.items()
            }
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def get_config(self):
        return {**super().get_config(), "dropout": self.dropout}


def guide(streams, presence, stage, dtype):
    """The maps of a stage by modality, each with what it finds in the others."""
    maps = list(streams.values())
    guided = CoAttention(
        units=max(1, maps[0].shape[-1] // 8),
        key_size=_KEY_SIZE,
        dtype=dtype,
        name=f"co_attention_stage{stage}",
    )(maps, presence=presence)
    return dict(zip(streams, guided, strict=True))


def refine(fused, before, stage, momentum, dtype):
    """A stage of the hyper-branch, from what is fused there and the stage before."""
    channels, prefix = fused.shape[-1], f"hyper_stage{stage}"
    options = {"data_format": "channels_last", "dtype": dtype}
    x = fused
    if before is not None:
        before = keras.layers.Conv2D(
            channels,
            3,
            strides=2,
            padding=_padding(before.shape[1:3], fused.shape[1:3]),
            name=f"{prefix}_down",
            **options,
        )(before)
        x = keras.layers.Add(dtype=dtype, name=f"{prefix}_sum")([fused, before])
    x = keras.layers.BatchNormalization(
        momentum=momentum, dtype=dtype, name=f"{prefix}_norm"
    )(x)
    x = keras.layers.ReLU(dtype=dtype, name=f"{prefix}_relu")(x)
    return keras.layers.Conv2D(
        channels, 3, padding="same", name=f"{prefix}_conv", **options
    )(x)


def _padding(before, after):
    """The padding with which a 3x3 convolution of stride 2 leads from size to size."""
    halved = all(-(-b // 2) == a for b, a in zip(before, after, strict=True))
    return "same" if halved else "valid"  # as Inception-v3 reduces its maps


def _describe(x, name, dropout, dtype):
    """What the heads of a branch read."""
    x = drop(pooled(name, x, dtype), dropout, name, dtype)
    return keras.layers.Flatten(dtype="float32", name=f"{name}_features")(x)


def _widened(labels, probabilities):
    """One-hot labels with one class more, that none has; integers as they are."""
    labels = ops.convert_to_tensor(labels)
    if tuple(labels.shape[1:]) != tuple(probabilities.shape[1:]):
        return labels
    return ops.concatenate([labels, ops.zeros_like(labels[..., :1])], axis=-1)
