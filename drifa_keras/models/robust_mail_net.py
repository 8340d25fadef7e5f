"""Robust-MAIL: Fig. 4."""

import keras

from drifa_keras.models.mail_net import MAILNet


@keras.saving.register_keras_serializable(package="drifa_keras")
class RobustMAILNet(MAILNet):
    """Robust-MAIL: `MAILNet` with random filters and noise in its attention.

    A share of the filters of every `MSGDC` is drawn anew in each call
    (`RandomProjectionConv2D`), and `AttentionNoise` is added in every `EMILA` and
    `EMCAM`, at inference as in training: two predictions of one image differ.
    Average several, or hold the draw with `drifa_keras.layers.freeze_randomness`.

    Randomness alone protects against an attacker who does not average over it; train
    adversarially to compare.

    Reference: Dhar et al., *Effective and Robust Multimodal Medical Image Analysis*,
    KDD 2026, Fig. 4. The released network has the noise but none of the random
    filters.

    Args:
        modalities: As in `MAILNet`.
        tasks: As in `MAILNet`.
        random_ratio: Share of random filters in `MSGDC`, from 0 to below 1.
        noise_stddev: Standard deviation of the noise before its learned weight.
        **kwargs: Other arguments of `MAILNet`.

    Call arguments:
        inputs: As in `MAILNet`.

    Returns:
        Dict of float32 probabilities `(batch, classes)` keyed by task.
    """

    def __init__(
        self, modalities, tasks, *, random_ratio=0.25, noise_stddev=0.6, **kwargs
    ):
        super().__init__(
            modalities,
            tasks,
            random_ratio=random_ratio,
            noise_stddev=noise_stddev,
            **kwargs,
        )
