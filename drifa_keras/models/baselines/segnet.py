"""SegNet, without attention: a baseline."""

import keras

from drifa_keras.models.baselines.stacked import StackedModel
from drifa_keras.models.encoder_decoder import SegNetStages, check_divisible


@keras.saving.register_keras_serializable(package="drifa_keras")
class SegNet(StackedModel):
    """Plain SegNet on the modalities stacked as channels.

    Reference: Badrinarayanan et al., *SegNet: A Deep Convolutional Encoder-Decoder
    Architecture for Image Segmentation*, IEEE TPAMI 2017. Dropout stands behind every
    stage of the decoder but the last one.

    Args:
        modalities: Dict of modality name to image shape `(height, width, channels)`,
            with 1 or 3 channels. All show the same case in the same place and have
            one size, divisible by 2 for each stage.
        tasks: Dict of task name to number of classes of its pixels, the background
            among them.
        dropout: Rate of every dropout layer; 0 leaves them out.
        filters: Channels of each stage.
        convolutions: Number of 3x3 convolutions of each stage, those of VGG-16 by
            default.
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
        filters=(64, 128, 256, 512, 512),
        convolutions=(2, 2, 3, 3, 3),
        norm_momentum=0.99,
        **kwargs,
    ):
        def network(x, dtype):
            stages = SegNetStages(filters, convolutions, dropout, norm_momentum, dtype)
            check_divisible(modalities, len(stages))
            streams, memories = stages.encode_all({"encoder": x})
            return stages.decode(streams["encoder"], memories)

        super().__init__(modalities, tasks, network, **kwargs)
        self.dropout = dropout
        self.filters = tuple(filters)
        self.convolutions = tuple(convolutions)
        self.norm_momentum = norm_momentum

    def get_config(self):
        return {
            **super().get_config(),
            "dropout": self.dropout,
            "filters": list(self.filters),
            "convolutions": list(self.convolutions),
            "norm_momentum": self.norm_momentum,
        }
