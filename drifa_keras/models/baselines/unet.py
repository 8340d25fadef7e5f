"""U-Net: a baseline."""

import keras

from drifa_keras.models.backbones import drop
from drifa_keras.models.baselines.stacked import StackedModel
from drifa_keras.models.encoder_decoder import Convolutions, check_divisible


@keras.saving.register_keras_serializable(package="drifa_keras")
class UNet(StackedModel):
    """U-Net on the modalities stacked as channels.

    Reference: Ronneberger et al., *U-Net: Convolutional Networks for Biomedical Image
    Segmentation*, MICCAI 2015. With padding and batch normalisation, as is usual;
    dropout stands at the end of the contracting path, as there, and behind every
    level of the expanding one but the last.

    Args:
        modalities: Dict of modality name to image shape `(height, width, channels)`,
            with 1 or 3 channels. All show the same case in the same place and have
            one size, divisible by 2 for each level but the first.
        tasks: Dict of task name to number of classes of its pixels, the background
            among them.
        dropout: Rate of every dropout layer; 0 leaves them out.
        filters: Channels of each level, the one at the bottom among them.
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
        filters=(64, 128, 256, 512, 1024),
        norm_momentum=0.99,
        **kwargs,
    ):
        filters = tuple(filters)
        if not filters or any(not isinstance(f, int) or f < 1 for f in filters):
            raise ValueError(
                "`filters` must hold a positive number of channels for each level. "
                f"Received: filters={filters}."
            )

        def network(x, dtype):
            check_divisible(modalities, len(filters) - 1)
            convolutions = Convolutions(norm_momentum, dtype)
            options = {"data_format": "channels_last", "dtype": dtype}
            skipped = []
            for level, channels in enumerate(filters):
                if level:
                    skipped.append(x)
                    x = keras.layers.MaxPooling2D(
                        2, name=f"encoder_pool{level}", **options
                    )(x)
                x = convolutions(x, [channels] * 2, f"encoder_level{level}")
            x = drop(x, dropout, "bottom", dtype)
            for level in reversed(range(len(filters) - 1)):
                name = f"decoder_level{level}"
                x = keras.layers.Conv2DTranspose(
                    filters[level], 2, strides=2, name=f"{name}_up", **options
                )(x)
                x = keras.layers.Concatenate(dtype=dtype, name=f"{name}_joined")(
                    [skipped[level], x]
                )
                x = convolutions(x, [filters[level]] * 2, name)
                if level:
                    x = drop(x, dropout, name, dtype)
            return x

        super().__init__(modalities, tasks, network, **kwargs)
        self.dropout = dropout
        self.filters = filters
        self.norm_momentum = norm_momentum

    def get_config(self):
        return {
            **super().get_config(),
            "dropout": self.dropout,
            "filters": list(self.filters),
            "norm_momentum": self.norm_momentum,
        }
