"""The last step of a classification head."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="drifa_keras")
class TemperatureSoftmax(keras.layers.Layer):
    """Softmax of logits divided by a temperature, in float32.

    The temperature is a non-trainable weight, 1 until the network is calibrated; it
    is saved with the model and never changes which class is the most probable.

    Reference: Guo et al., *On Calibration of Modern Neural Networks*, ICML 2017,
    Eq. 9.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`, such as `name`. The dtype is
            float32 unless given.

    Call arguments:
        logits: Tensor of shape `(batch, classes)`.

    Returns:
        Probabilities of shape `(batch, classes)`.

    Attributes:
        temperature: Scalar weight, above 0.
    """

    def __init__(self, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)

    def build(self, input_shape):
        self.temperature = self.add_weight(
            shape=(), initializer="ones", trainable=False, name="temperature"
        )

    def call(self, logits):
        return ops.softmax(logits / self.temperature, axis=-1)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        # Without an override Keras cannot serialize a dtype policy object.
        return super().get_config()
