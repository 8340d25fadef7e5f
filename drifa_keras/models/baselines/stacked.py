"""Early fusion: aligned modalities as the channels of one image."""

import keras

from drifa_keras.models.multimodal_model import MultimodalModel


class StackedModel(MultimodalModel):
    """A network of one image, which holds all modalities as its channels.

    Args:
        modalities: As in `MultimodalModel`; of equal height and width.
        tasks: As in `MultimodalModel`.
        network: Function `(image, dtype policy) -> features`.
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
        modality_dropout=0.0,
        rescaling=1 / 255,
        dtype=None,
        **kwargs,
    ):
        policy = keras.dtype_policies.get(dtype)
        inputs, streams, _ = self.open_streams(
            modalities, modality_dropout, rescaling, policy
        )
        images = list(streams.values())
        x = images[0]
        if len(images) > 1:
            x = keras.layers.Concatenate(dtype=policy, name="stacked")(images)
        super().__init__(
            inputs,
            network(x, policy),
            modalities,
            tasks,
            modality_dropout=modality_dropout,
            rescaling=rescaling,
            dtype=policy,
            **kwargs,
        )
