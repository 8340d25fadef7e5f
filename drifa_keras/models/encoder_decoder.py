"""What the segmentation networks share: convolutions, and the halves of SegNet."""

import keras

from drifa_keras.layers import (
    MaxPoolingWithIndices2D,
    MaxUnpooling2D,
    StreamConcatenate,
)
from drifa_keras.models.backbones import drop
from drifa_keras.models.multimodal_model import check_modalities


class Convolutions:
    """Makes runs of convolution, batch normalisation and ReLU.

    Args:
        norm_momentum: Momentum of the running statistics of batch normalisation.
        dtype: Dtype policy.
    """

    def __init__(self, norm_momentum=0.99, dtype=None):
        self._momentum = norm_momentum
        self._options = {"dtype": keras.dtype_policies.get(dtype)}

    def __call__(self, x, filters, name, kernel_size=3):
        """Applies one convolution for each entry of `filters`, 3x3 by default."""
        for index, channels in enumerate(filters):
            prefix = f"{name}_conv{index}"
            x = keras.layers.Conv2D(
                channels,
                kernel_size,
                padding="same",
                data_format="channels_last",
                name=prefix,
                **self._options,
            )(x)
            x = keras.layers.BatchNormalization(
                momentum=self._momentum, name=f"{prefix}_norm", **self._options
            )(x)
            x = keras.layers.ReLU(name=f"{prefix}_relu", **self._options)(x)
        return x


class SegNetStages:
    """The stages of SegNet: an encoder for each modality, and the decoder.

    Reference: Badrinarayanan et al., *SegNet: A Deep Convolutional Encoder-Decoder
    Architecture for Image Segmentation*, IEEE TPAMI 2017, Fig. 2. Dropout stands
    behind every stage of the decoder but the last one, so that what all Monte-Carlo
    passes share is computed once.

    Args:
        filters: Channels of each stage of the encoder.
        convolutions: Number of convolutions of each stage.
        dropout: Rate of dropout; 0 leaves it out.
        norm_momentum: Momentum of the running statistics of batch normalisation.
        dtype: Dtype policy.
        skips: Whether the decoder adds the maps of the encoder before each pooling, of
            all modalities side by side, to what it unpools (after
            SegNet-Basic-EncoderAddition, Table 1 there).
    """

    def __init__(
        self, filters, convolutions, dropout, norm_momentum, dtype, skips=False
    ):
        self.filters, self.numbers = tuple(filters), tuple(convolutions)
        if len(self.filters) != len(self.numbers) or not all(
            isinstance(n, int) and n > 0 for n in (*self.filters, *self.numbers)
        ):
            raise ValueError(
                "`filters` and `convolutions` hold a positive number for each stage. "
                f"Received: filters={self.filters}, convolutions={self.numbers}."
            )
        self.dropout, self.momentum, self.skips = dropout, norm_momentum, skips
        self._dtype = keras.dtype_policies.get(dtype)
        self._convolutions = Convolutions(norm_momentum, dtype)

    def __len__(self):
        return len(self.filters)

    def encode_all(self, streams, gate=None, fuse=None):
        """The encoders of all modalities, side by side.

        Args:
            streams: Dict of images by modality.
            gate: Function `(modality, stage, map) -> map` behind the convolutions of
                each stage.
            fuse: Function `(stage, streams) -> streams` behind its pooling.

        Returns:
            Tuple of the dict of the last pooled maps by modality, and for each stage
            what `decode` needs of it: the maps of all modalities and the places of
            their maxima.
        """
        memories = []
        for stage in range(len(self)):
            maps, places, pooled = [], [], {}
            for name, x in streams.items():
                filters = [self.filters[stage]] * self.numbers[stage]
                x = self._convolutions(x, filters, f"{name}_stage{stage}")
                if gate is not None:
                    x = gate(name, stage, x)
                maps.append(x)
                pooled[name], where = MaxPoolingWithIndices2D(
                    dtype=self._dtype, name=f"{name}_pool{stage}"
                )(x)
                places.append(where)
            memories.append((maps, places))
            streams = pooled if fuse is None else fuse(stage, pooled)
        return streams, memories

    def join(self, streams, presence):
        """One map of the channels of the last stage, from one of each modality."""
        x = self._side_by_side(
            list(streams.values()), presence, self.filters[-1], "fused"
        )
        return drop(x, self.dropout, "fused", self._dtype)

    def decode(self, x, memories, presence=None):
        """The decoder, from a map of the last stage to one of the first.

        Args:
            x: Map with as many channels as the last stage.
            memories: For each stage the maps of all modalities before its pooling,
                and the places of their maxima: two lists.
            presence: 0/1 tensor `(batch, m)`, or `None`.
        """
        for stage in reversed(range(len(self))):
            maps, places = memories[stage]
            x = MaxUnpooling2D(dtype=self._dtype, name=f"unpool{stage}")(
                [x, *places], presence=presence
            )
            if self.skips:
                skipped = self._side_by_side(
                    maps, presence, self.filters[stage], f"skip_stage{stage}"
                )
                x = keras.layers.Add(dtype=self._dtype, name=f"skip_stage{stage}_sum")(
                    [x, skipped]
                )
            filters = [self.filters[stage]] * self.numbers[stage]
            filters[-1] = self.filters[max(stage - 1, 0)]
            x = self._convolutions(x, filters, f"decoder_stage{stage}")
            if stage:
                x = drop(x, self.dropout, f"decoder_stage{stage}", self._dtype)
        return x

    def _side_by_side(self, maps, presence, channels, name):
        """A map of `channels` from those of all modalities, by a 1x1 convolution."""
        x = StreamConcatenate(dtype=self._dtype, name=f"{name}_streams")(
            maps, presence=presence
        )
        return self._convolutions(x, [channels], name, kernel_size=1)


def check_divisible(modalities, halvings):
    """Raises a `ValueError` unless all images have one size that can be halved."""
    shapes = check_modalities(modalities)
    if len({shape[:2] for shape in shapes.values()}) > 1:
        raise ValueError(
            "The images of all modalities must have one size to be segmented together. "
            f"Received: {shapes}. Readers and `drifa_keras.data` resize."
        )
    height, width, _ = next(iter(shapes.values()))
    step = 2**halvings
    if height % step or width % step:
        raise ValueError(
            f"The network halves its maps {halvings} times: height and width have to "
            f"be divisible by {step}. Received: {height}x{width}. Resize the images to "
            f"{-(-height // step) * step}x{-(-width // step) * step}, or pass fewer "
            "`filters`."
        )
