"""GLoRIA's local representations: attention of words to regions, and their contrast."""

import keras
from keras import ops

from drifa_keras.layers._packing import of_modality, require_list, require_presence
from drifa_keras.models.baselines.contrast import contrast, unit

_MATCHING, _SCALE = 5.0, 10.0


@keras.saving.register_keras_serializable(package="drifa_keras")
class LocalAlignment(keras.layers.Layer):
    """Words of one modality attend to regions of another, after GLoRIA.

    The cells of the map of modality i are the words `t_w`, those of another, j, the
    regions `v_p`. With `s_pw = <v_p, t_w>` there are two softmaxes, the first over
    the words:

    ```
    a_pw = softmax_p(temperature * softmax_w(s_pw))
    c_w  = sum_p a_pw v_p,    averaged over all j != i
    ```

    With a `weight` above 0, training adds `weight` times the contrastive loss of
    images b and reports r of a batch,

    ```
    Z(b, r) = 10 log sum_w exp(5 cos(t_w of r, c_w of r in b))
    ```

    the cross-entropy of its rows with that of its columns, where each b belongs to its
    own r, averaged over all ordered pairs of modalities. It takes memory and time of
    the order of (batch x cells) squared.

    Reference: Huang et al., *GLoRIA: A Multimodal Global-Local Representation
    Learning Framework for Label-efficient Medical Image Recognition*, ICCV 2021,
    Sec. 3.2-3.3, and github.com/marshuang80/gloria; there the words are those of a
    text.

    Args:
        temperature: Factor between the two softmaxes.
        weight: Weight of the contrastive loss.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: List of m >= 2 feature maps `(batch, height, width, channels)` of equal
            channels.
        presence: 0/1 tensor `(batch, m)`; by default all are present. The mean over j
            is one of those that are present, zero if there is none.
        training: Whether the loss is added.

    Returns:
        List of m maps `c` of the shapes of the inputs.
    """

    def __init__(self, temperature=4.0, weight=0.0, **kwargs):
        super().__init__(**kwargs)
        self.temperature = temperature
        self.weight = weight

    def build(self, input_shape):
        require_list(self, input_shape)
        if len(input_shape) < 2 or len({shape[-1] for shape in input_shape}) > 1:
            raise ValueError(
                f"Layer {self.name!r} takes at least two maps of equal channels. "
                f"Received: {[tuple(shape) for shape in input_shape]}."
            )

    def call(self, inputs, presence=None, training=False):
        require_presence(self, presence, len(inputs))
        cells = [ops.reshape(x, (ops.shape(x)[0], -1, x.shape[-1])) for x in inputs]
        if training and self.weight:
            self.add_loss(self.weight * self._loss(cells, presence))
        outputs = []
        for i, words in enumerate(cells):
            others = [j for j in range(len(cells)) if j != i]
            contexts = [self._context(words, cells[j]) for j in others]
            if presence is None:
                mean = sum(contexts[1:], contexts[0]) / len(contexts)
            else:
                there = ops.cast(presence, "float32")
                count = sum(there[:, j] for j in others)
                share = ops.cast(there / ops.maximum(count, 1.0)[:, None], words.dtype)
                mean = sum(
                    context * of_modality(share, j, 3)
                    for j, context in zip(others, contexts, strict=True)
                )
            outputs.append(ops.reshape(mean, ops.shape(inputs[i])))
        return outputs

    def _attention(self, scores):
        """(..., regions, words), a distribution over the regions for each word."""
        scores = ops.softmax(ops.cast(scores, "float32"), axis=-1)
        return ops.softmax(self.temperature * scores, axis=-2)

    def _context(self, words, regions):
        scores = ops.einsum("bpd,bwd->bpw", regions, words)
        attention = ops.cast(self._attention(scores), words.dtype)
        return ops.einsum("bpw,bpd->bwd", attention, regions)

    def _loss(self, cells, presence):
        losses = []
        cells = [ops.cast(x, "float32") for x in cells]
        for i, words in enumerate(cells):
            for j, regions in enumerate(cells):
                if j != i:
                    both = None
                    if presence is not None:
                        both = ops.cast(presence[:, i] * presence[:, j], "float32")
                    losses.append(contrast(self._matching(words, regions), both))
        return sum(losses) / len(losses)

    def _matching(self, words, regions):
        """Z of the regions of every sample b and the words of every sample r."""
        scores = ops.einsum("bpd,rwd->brpw", regions, words)
        attention = self._attention(scores)
        contexts = ops.einsum("brpw,bpd->brwd", attention, regions)
        # (batch, batch, words)
        cosine = ops.sum(unit(words)[None] * unit(contexts), axis=-1)
        return _SCALE * ops.logsumexp(_MATCHING * cosine, axis=-1)

    def compute_output_shape(self, input_shape):
        return [tuple(shape) for shape in input_shape]

    def multiply_adds(self, input_shape):
        """Multiply-adds for one sample of m maps `(batch, H, W, C)`, without loss."""
        cells = [shape[1] * shape[2] for shape in input_shape]
        pairs = sum(cells) ** 2 - sum(count**2 for count in cells)
        return 2 * pairs * input_shape[0][-1]

    def get_config(self):
        return {
            **super().get_config(),
            "temperature": self.temperature,
            "weight": self.weight,
        }
