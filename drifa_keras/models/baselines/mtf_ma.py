"""Mutual attention of two encoders, after MTF with MA: a comparator."""

import keras

from drifa_keras.layers import CrossModalAttention
from drifa_keras.models.backbones import drop
from drifa_keras.models.baselines.comparator import (
    Comparator,
    encode,
    pointwise,
    pooled,
    require_several,
)
from drifa_keras.models.baselines.transformer import dense, normalization, residual
from drifa_keras.models.staged_model import join


@keras.saving.register_keras_serializable(package="drifa_keras")
class MTFMA(Comparator):
    """Encoders whose tokens are joined by blocks of mutual attention.

    An adaptation, of a description: no official code is known, and of the paper the
    abstract was at hand. The DRIFA paper compares with it on pairs of images, and says
    neither how nor with what code. So this reproduces no row of its tables.

    Theirs: an encoder for each of the two, and a decoder of blocks in which either
    attends to the other. Ours: what a block is,

    ```
    T_i' = LN(T_i + MHA(Q: T_i, K and V: all T_j with j != i))
    T_i  = LN(T_i' + FFN(T_i'))
    ```

    for all i at once, from the same inputs; the last map of the ResNet of `DRIFANet`
    as tokens in place of a vision Transformer; features that are the mean over the
    tokens. Left out: the soft label encoder of metadata, since an image takes its
    place and the networks here have image inputs only.

    Reference: Cai et al., *A Multimodal Transformer to Fuse Images and Metadata for
    Skin Disease Classification*, The Visual Computer 39, 2023.

    Args:
        modalities: Dict of at least two modality names to image shapes `(height,
            width, channels)`, with 1 or 3 channels.
        tasks: Dict of task name to number of classes.
        units: Width of the tokens, divisible by `heads`.
        depth: Number of blocks.
        heads: Number of heads of the attention.
        dropout: Rate of the dropout before the heads; 0 leaves it out.
        transformer_dropout: Rate of the dropout in the blocks; 0 leaves it out.
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
        self,
        modalities,
        tasks,
        units=256,
        depth=2,
        heads=4,
        dropout=0.25,
        *,
        transformer_dropout=0.1,
        **kwargs,
    ):
        require_several(type(self), modalities)

        def network(branches, streams, presence, dtype):
            tokens = {
                name: pointwise(units, f"{name}_tokens", dtype)(
                    encode(branches, name, x)[-1]
                )
                for name, x in streams.items()
            }
            for number in range(depth):
                tokens = mutual(
                    tokens, presence, number, heads, transformer_dropout, dtype
                )
            parts = {name: pooled(name, x, dtype) for name, x in tokens.items()}
            return join(parts, presence, dropout, dtype)

        super().__init__(modalities, tasks, network, **kwargs)
        self.units = units
        self.depth = depth
        self.heads = heads
        self.dropout = dropout
        self.transformer_dropout = transformer_dropout

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "depth": self.depth,
            "heads": self.heads,
            "dropout": self.dropout,
            "transformer_dropout": self.transformer_dropout,
        }


def mutual(tokens, presence, number, heads, dropout, dtype):
    """One block of mutual attention, on a dict of maps by modality."""
    seen = CrossModalAttention(heads, dtype=dtype, name=f"mutual{number}_attention")(
        list(tokens.values()), presence=presence
    )
    grown = {}
    for (name, x), y in zip(tokens.items(), seen, strict=True):
        units, prefix = x.shape[-1], f"{name}_mutual{number}"
        y = dense(units, f"{prefix}_project", dtype)(y)
        x = residual(x, y, dropout, f"{prefix}_attention", dtype)
        x = normalization(f"{prefix}_norm1", dtype)(x)
        y = dense(4 * units, f"{prefix}_widen", dtype, "gelu")(x)
        y = drop(y, dropout, f"{prefix}_wide", dtype)
        y = dense(units, f"{prefix}_narrow", dtype)(y)
        x = residual(x, y, dropout, f"{prefix}_mlp", dtype)
        grown[name] = normalization(f"{prefix}_norm2", dtype)(x)
    return grown
