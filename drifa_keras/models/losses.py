"""What segmentation networks are trained on."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="drifa_keras")
class DiceCrossEntropy(keras.losses.Loss):
    """Soft Dice loss plus cross-entropy, for each image.

    With the probability `p` and the one-hot label `t` of pixel `i` and class `k`,

    ```
    dice_k = (2 sum_i p_ik t_ik + smooth) / (sum_i p_ik + sum_i t_ik + smooth)
    loss   = 1 - mean_k dice_k - mean_i sum_k t_ik log p_ik
    ```

    The mean of Dice leaves out class 0, the background. Pixels whose label is unknown,
    a row of zeros, take no part.

    Reference: Milletari et al., *V-Net*, 3DV 2016 (with plain sums for its squares);
    the sum with the cross-entropy as in Isensee et al., *nnU-Net*, Nature Methods
    2021.

    Args:
        smooth: Added above and below, so that a class that neither occurs nor is
            predicted has a Dice of 1.
        **kwargs: Arguments of `keras.losses.Loss`, such as `name` and `reduction`.

    Call arguments:
        y_true: One-hot labels `(batch, height, width, classes)`.
        y_pred: Probabilities of the same shape.
        sample_weight: `(batch,)`.
    """

    def __init__(self, smooth=1.0, name="dice_cross_entropy", **kwargs):
        super().__init__(name=name, **kwargs)
        if not smooth > 0:
            raise ValueError(f"`smooth` must be above 0. Received: {smooth!r}.")
        self.smooth = smooth

    def call(self, y_true, y_pred):
        if len(y_pred.shape) != 4 or y_pred.shape[-1] < 2:
            raise ValueError(
                "Labels and probabilities must have the shape (batch, height, width, "
                "classes), of at least two classes. Received: "
                f"{tuple(y_true.shape)} and {tuple(y_pred.shape)}."
            )
        p, t = ops.cast(y_pred, "float32"), ops.cast(y_true, "float32")
        known = ops.sum(t, axis=-1, keepdims=True)
        both = ops.sum(p * t, axis=(1, 2))[:, 1:]  # (batch, classes - 1)
        each = ops.sum(p * known + t, axis=(1, 2))[:, 1:]
        dice = (2 * both + self.smooth) / (each + self.smooth)
        p = ops.clip(p, keras.config.epsilon(), 1.0)
        entropy = -ops.sum(t * ops.log(p), axis=(1, 2, 3))
        entropy = entropy / ops.maximum(ops.sum(known, axis=(1, 2, 3)), 1.0)
        return 1 - ops.mean(dice, axis=-1) + entropy

    def get_config(self):
        return {**super().get_config(), "smooth": self.smooth}
