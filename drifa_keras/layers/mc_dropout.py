"""Dropout for Monte-Carlo passes: DRIFA-Net, Sec. 3.3 and Eq. 10."""

import keras


@keras.saving.register_keras_serializable(package="drifa_keras")
class MCDropout(keras.layers.Dropout):
    """Dropout that can stay on at inference.

    With `always_on=False` it is `keras.layers.Dropout`. With `always_on=True` it
    draws a fresh mask in every call, in `predict` and `evaluate` as well, which is
    Monte-Carlo dropout: each pass is one sample of Eq. 10. (Calling a plain
    `Dropout` with `training=True` inside a Functional graph does not do that:
    `predict` overrides the argument, and the passes do not differ.)

    Reference: Dhar et al., *Multimodal Fusion Learning with Dual Attention for
    Medical Imaging*, WACV 2025, Sec. 3.3; Gal and Ghahramani, *Dropout as a Bayesian
    Approximation*, ICML 2016.

    Args:
        rate: Fraction of the units to drop, from 0 to 1.
        noise_shape: Shape of the mask, as in `keras.layers.Dropout`.
        seed: Integer seed.
        always_on: Whether to drop at inference too.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: Tensor of any shape.
        training: Whether to drop, where `always_on=False`.

    Returns:
        Tensor of the shape of `inputs`.
    """

    def __init__(self, rate, noise_shape=None, seed=None, always_on=False, **kwargs):
        super().__init__(rate, noise_shape=noise_shape, seed=seed, **kwargs)
        self.always_on = bool(always_on)

    def call(self, inputs, training=False):
        return super().call(inputs, training=training or self.always_on)

    def get_config(self):
        return {**super().get_config(), "always_on": self.always_on}
