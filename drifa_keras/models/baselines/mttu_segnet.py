"""MTTU-Net in two dimensions: a comparator of segmentation."""

import keras

from drifa_keras.models.backbones import drop
from drifa_keras.models.baselines.modality_embedding import ModalityEmbedding
from drifa_keras.models.baselines.stacked import StackedModel
from drifa_keras.models.baselines.transformer import embed, normalization, transform
from drifa_keras.models.encoder_decoder import check_divisible


@keras.saving.register_keras_serializable(package="drifa_keras")
class MTTUSegNet(StackedModel):
    """The segmentation half of MTTU-Net: a U-Net with a Transformer at the bottom.

    An adaptation. Theirs, in three dimensions: modalities as channels; levels of
    residual blocks (BN-LeakyReLU-convolution, twice) with a convolution of stride 2
    between them; BN-LeakyReLU-convolution to tokens, learned positions, a pre-norm
    Transformer with wide hidden layers and a last LayerNorm; two convolutions back
    to the channels of the encoder; on the way up a 1x1 convolution, a transposed one,
    the map of the encoder beside it, a 1x1 convolution and a residual block. Ours: two
    dimensions, and dropout behind the Transformer and every level of the decoder but
    the last, as in the other networks of segmentation here. Left out: the classifier
    (`MTTUNet` has it), the pseudo-labels, and the dropout behind the first
    convolution, which theirs leaves on in prediction.

    Reference: Cheng et al., *A Fully Automated Multimodal MRI-Based Multi-Task
    Learning for Glioma Segmentation and IDH Genotyping*, IEEE TMI 41(6), 2022;
    github.com/miacsu/MTTU-Net.

    Args:
        modalities: Dict of modality name to image shape `(height, width, channels)`,
            with 1 or 3 channels. All show the same case in the same place and have
            one size, divisible by 2 for each level but the first.
        tasks: Dict of task name to number of classes of its pixels, the background
            among them.
        dropout: Rate of the dropout around the decoder; 0 leaves it out.
        filters: Channels of each level.
        blocks: Residual blocks of each level of the encoder.
        units: Width of the tokens, divisible by `heads`.
        depth: Number of layers of the Transformer.
        heads: Number of heads of its attention.
        transformer_dropout: Rate of the dropout in the Transformer; 0 leaves it out.
        norm_momentum: Momentum of the running statistics of batch normalisation.
        **kwargs: `modality_dropout`, `rescaling`, `dtype`, `name` and `trainable`, as
            in `MultimodalModel`.

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
        dropout=0.25,
        *,
        filters=(64, 128, 256, 512),
        blocks=(1, 2, 2, 4),
        units=256,
        depth=4,
        heads=8,
        transformer_dropout=0.1,
        norm_momentum=0.99,
        **kwargs,
    ):
        filters, blocks = tuple(filters), tuple(blocks)
        numbers = (*filters, *blocks)
        if len(filters) != len(blocks) or not all(
            isinstance(n, int) and n > 0 for n in numbers
        ):
            raise ValueError(
                "`filters` and `blocks` hold a positive number for each level. "
                f"Received: filters={filters}, blocks={blocks}."
            )

        def network(x, dtype):
            check_divisible(modalities, len(filters) - 1)
            parts = _Parts(norm_momentum, dtype)
            skipped = []
            for level, (channels, count) in enumerate(
                zip(filters, blocks, strict=True)
            ):
                name = f"encoder_level{level}"
                x = parts.convolve(x, channels, f"{name}_in", strides=2 if level else 1)
                for index in range(count):
                    x = parts.residual(x, f"{name}_block{index}")
                skipped.append(x)
            x = embed(x, units, "stacked", norm_momentum, dtype)
            (x,) = ModalityEmbedding(dtype=dtype, name="embedding")([x])
            tokens = {"stacked": x}
            for number in range(depth):
                tokens = transform(
                    tokens, None, number, heads, transformer_dropout, dtype
                )
            x = normalization("transformer_norm", dtype)(tokens["stacked"])
            x = drop(x, dropout, "transformer", dtype)
            for index in range(2):
                x = parts.activated(x, filters[-1], f"bottom_conv{index}")
            for level in reversed(range(len(filters) - 1)):
                name, channels = f"decoder_level{level}", filters[level]
                x = parts.convolve(x, channels, f"{name}_in", kernel_size=1)
                x = keras.layers.Conv2DTranspose(
                    channels,
                    2,
                    strides=2,
                    data_format="channels_last",
                    dtype=dtype,
                    name=f"{name}_up",
                )(x)
                x = keras.layers.Concatenate(dtype=dtype, name=f"{name}_joined")(
                    [skipped[level], x]
                )
                x = parts.convolve(x, channels, f"{name}_fuse", kernel_size=1)
                x = parts.residual(x, name)
                if level:
                    x = drop(x, dropout, name, dtype)
            return x

        super().__init__(modalities, tasks, network, **kwargs)
        self.dropout = dropout
        self.filters = filters
        self.blocks = blocks
        self.units = units
        self.depth = depth
        self.heads = heads
        self.transformer_dropout = transformer_dropout
        self.norm_momentum = norm_momentum

    def get_config(self):
        return {
            **super().get_config(),
            "dropout": self.dropout,
            "filters": list(self.filters),
            "blocks": list(self.blocks),
            "units": self.units,
            "depth": self.depth,
            "heads": self.heads,
            "transformer_dropout": self.transformer_dropout,
            "norm_momentum": self.norm_momentum,
        }


class _Parts:
    """Convolutions of one dtype and momentum."""

    def __init__(self, momentum, dtype):
        self._momentum, self._dtype = momentum, dtype

    def convolve(self, x, channels, name, kernel_size=3, strides=1):
        return keras.layers.Conv2D(
            channels,
            kernel_size,
            strides=strides,
            padding="same",
            data_format="channels_last",
            dtype=self._dtype,
            name=name,
        )(x)

    def activated(self, x, channels, name):
        """Batch normalisation and LeakyReLU in front of a convolution."""
        options = {"dtype": self._dtype}
        x = keras.layers.BatchNormalization(
            momentum=self._momentum, name=f"{name}_norm", **options
        )(x)
        x = keras.layers.LeakyReLU(0.01, name=f"{name}_relu", **options)(x)
        return self.convolve(x, channels, name)

    def residual(self, x, name):
        y = x
        for index in range(2):
            y = self.activated(y, x.shape[-1], f"{name}_conv{index}")
        return keras.layers.Add(dtype=self._dtype, name=f"{name}_sum")([x, y])
