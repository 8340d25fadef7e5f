"""Several predictions of one task as one."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="drifa_keras")
class CombinedLogits(keras.layers.Layer):
    """Logits whose softmax is the mean of the softmaxes of several heads.

    With logits `z_h` and `p_h = softmax(z_h)`, and the mean over the heads h:

    ```
    in prediction   log mean_h p_h + mean_h logsumexp(z_h)
    in training     mean_h log p_h
    ```

    The second term of the first is the same for all classes; it makes one head alone
    return its own logits. What training gets is the logarithm of the geometric mean,
    whose cross-entropy is the mean of the heads' cross-entropies: deep supervision.
    It must not be normalised on the way there, see `CombinedSoftmax`.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`, such as `name`. The dtype is
            float32 unless given.

    Call arguments:
        inputs: List of the logits `(batch, classes)` of each head.
        presence: 0/1 tensor `(batch, m)` for the first m heads; a head that is absent
            has no say. By default none is.
        training: Which of the two to return.

    Returns:
        Tensor `(batch, classes)`.
    """

    def __init__(self, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)

    def build(self, input_shape):
        if len({tuple(shape[1:]) for shape in input_shape}) > 1:
            raise ValueError(
                f"Layer {self.name!r} takes a list of logits of equal shape. "
                f"Received: {[tuple(shape) for shape in input_shape]}."
            )

    def call(self, inputs, presence=None, training=False):
        logits = ops.cast(ops.stack(inputs, axis=1), "float32")  # (batch, heads, K)
        log_p = ops.log_softmax(logits, axis=-1)
        there = ops.ones_like(logits[:, :, 0])
        if presence is not None:
            always = there[:, presence.shape[1] :]
            there = ops.concatenate([ops.cast(presence, there.dtype), always], axis=1)
        share = (there / ops.sum(there, axis=1, keepdims=True))[:, :, None]
        if training:
            return ops.cast(ops.sum(share * log_p, axis=1), self.compute_dtype)
        mixed = ops.logsumexp(log_p + ops.log(share + 1e-30), axis=1)
        size = ops.logsumexp(logits, axis=-1, keepdims=True)
        mixed = mixed + ops.sum(share * size, axis=1)
        return ops.cast(mixed, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[0])

    def get_config(self):
        # Without an override Keras cannot serialize a dtype policy object.
        return super().get_config()
