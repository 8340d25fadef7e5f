"""Modulated attention noise: Robust-MAIL, Fig. 4C-D."""

import keras
from keras import ops

from drifa_keras.layers._clip import clip
from drifa_keras.layers.randomness import DrawGenerator, DrawnSeed


@keras.saving.register_keras_serializable(package="drifa_keras")
class AttentionNoise(keras.layers.Layer):
    """Modulated attention noise (MAN): Gaussian noise with a learned weight.

    ```
    y = x + w n        n ~ N(0, stddev**2)
    ```

    w is a scalar that starts at 1. Noise is drawn anew for every element in every
    call, in training and at inference; `freeze_randomness` holds it to one draw.

    The released code has

    ```
    y = clip(x + w (n + n**2), 0, 1)
    ```

    whose noise has the mean w stddev**2, and whose gradient is zero where the clip
    cuts.

    Reference: Dhar et al., *Effective and Robust Multimodal Medical Image Analysis*,
    KDD 2026, Fig. 4C-D.

    Args:
        stddev: Standard deviation of n, at least 0.
        released: Whether to take the form of the released code.
        learn_weight: Whether w is trained.
        seed: Integer seed of the draws.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        x: Tensor of shape `(batch, ...)`.

    Returns:
        Tensor of the shape of `x`.

    Attributes:
        weight: w.
    """

    def __init__(
        self, stddev=0.6, released=False, learn_weight=True, seed=None, **kwargs
    ):
        super().__init__(**kwargs)
        if not stddev >= 0:
            raise ValueError(
                f"`stddev` must be at least 0. Received: stddev={stddev!r}."
            )
        self.stddev = stddev
        self.released = bool(released)
        self.learn_weight = bool(learn_weight)
        self.seed = seed
        self.draws = DrawGenerator(seed)

    def build(self, input_shape):
        self.weight = self.add_weight(
            shape=(), initializer="ones", trainable=self.learn_weight, name="weight"
        )

    def call(self, x):
        noise = self._draw(x)
        if self.released:
            return clip(x + self.weight * (noise + ops.square(noise)), 0, 1)
        return x + self.weight * noise

    def _draw(self, x):
        """Noise for every sample, or one noise for all of them while it is held."""
        held, seed = self.draws.is_held(), DrawnSeed(self.draws)
        shape = ops.shape(x)

        def normal(count):
            return keras.random.normal(
                (count, *shape[1:]), stddev=self.stddev, dtype="float32", seed=seed
            )

        # Drawing takes a good part of the time of a small network.
        noise = ops.cond(
            held,
            lambda: ops.broadcast_to(normal(1), shape),
            lambda: normal(shape[0]),
        )
        return ops.cast(noise, x.dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "stddev": self.stddev,
            "released": self.released,
            "learn_weight": self.learn_weight,
            "seed": self.seed,
        }
