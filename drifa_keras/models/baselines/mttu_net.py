"""MTTU-Net, made a classifier of several tasks: a comparator."""

import keras
from keras import ops

from drifa_keras.models.baselines.comparator import Comparator, encode
from drifa_keras.models.baselines.mean_max_pooling import MeanMaxPooling2D
from drifa_keras.models.baselines.modality_embedding import ModalityEmbedding
from drifa_keras.models.baselines.transformer import embed, normalization, transform
from drifa_keras.models.staged_model import join


@keras.saving.register_keras_serializable(package="drifa_keras")
class MTTUNet(Comparator):
    """CNN encoders, one Transformer over all modalities, uncertain tasks.

    An adaptation. MTTU-Net segments gliomas and classifies them, from four aligned
    modalities; the DRIFA paper compares with it on pairs of unrelated images, and says
    neither how nor with what code. So this reproduces no row of its tables.

    Theirs: BN-LeakyReLU-convolution from the last map of the encoder to the tokens,
    learned positions, a pre-norm Transformer with GELU, wide hidden layers and a last
    LayerNorm; a classifier that reads the mean and the maximum of both the
    encoder's and the Transformer's map through dropout and three linear layers with
    nothing between them; losses weighted by the learned uncertainty of each task.
    Ours: an encoder for each modality, the ResNet of `DRIFANet` in two dimensions,
    since unaligned images cannot be stacked as channels; a learned vector for each
    modality; a head for each task that reads all modalities. Left out: the decoder,
    the pseudo-labels, the dropout on the weights of the attention, and that behind
    the first convolution, which theirs leaves on in prediction.

    The loss of a training step is

    ```
    sum_k exp(-s_k) / 2 * L_k + s_k
    ```

    where `L_k` is the compiled loss of task k times its weight, and `s_k` is trained,
    from 0 on. It settles where exp(-s_k) / 2 is 1 / L_k, whatever the weights given to
    `compile`. Validation and `evaluate` report the compiled losses as they are, so
    that epochs and networks can be compared; the losses of the tasks in the training
    history have their factor exp(-s_k) / 2.

    Reference: Cheng et al., *A Fully Automated Multimodal MRI-Based Multi-Task
    Learning for Glioma Segmentation and IDH Genotyping*, IEEE TMI 41(6), 2022;
    github.com/miacsu/MTTU-Net.

    Args:
        modalities: Dict of modality name to image shape `(height, width,
            channels)`, with 1 or 3 channels, of equal height and width.
        tasks: Dict of task name to number of classes.
        units: Width of the tokens, divisible by `heads`.
        depth: Number of layers of the Transformer.
        heads: Number of heads of its attention.
        hidden_units: Widths of the two layers in front of each task's logits.
        dropout: Rate of the dropout before the heads; 0 leaves it out.
        transformer_dropout: Rate of the dropout in the Transformer; 0 leaves it out.
        **kwargs: `backbone` (`"resnet18"` or `"inception_v3"`), `filters`, `stem` and
            `norm_momentum` as in `DRIFANet`;
            `modality_dropout`, `rescaling`, `dtype`, `name` and `trainable` as in
            `MultimodalModel`.

    Call arguments:
        inputs: Dict of images `(batch, height, width, channels)`, pixels 0..255. An
            image of zeros counts as absent.

    Returns:
        Dict of float32 probabilities `(batch, classes)` keyed by task.

    Attributes:
        log_variances: `s_k`, in the order of `tasks`.
    """

    def __init__(
        self,
        modalities,
        tasks,
        units=256,
        depth=4,
        heads=8,
        dropout=0.2,
        *,
        hidden_units=(512, 32),
        transformer_dropout=0.1,
        norm_momentum=0.99,
        **kwargs,
    ):
        hidden_units = tuple(hidden_units)

        def network(branches, streams, presence, dtype):
            maps = {name: encode(branches, name, x)[-1] for name, x in streams.items()}
            tokens = {
                name: embed(x, units, name, norm_momentum, dtype)
                for name, x in maps.items()
            }
            embedded = ModalityEmbedding(dtype=dtype, name="embedding")(
                list(tokens.values())
            )
            tokens = dict(zip(tokens, embedded, strict=True))
            for number in range(depth):
                tokens = transform(
                    tokens, presence, number, heads, transformer_dropout, dtype
                )
            norm, parts = normalization("transformer_norm", dtype), {}
            for name, x in tokens.items():
                pools = [
                    MeanMaxPooling2D(dtype=dtype, name=f"{name}_{kind}_pooled")(z)
                    for kind, z in (("encoded", maps[name]), ("transformed", norm(x)))
                ]
                parts[name] = keras.layers.Concatenate(
                    dtype=dtype, name=f"{name}_features"
                )(pools)
            x = join(parts, presence, dropout, dtype)
            return {task: _hidden(x, hidden_units, task) for task in sorted(tasks)}

        super().__init__(
            modalities, tasks, network, norm_momentum=norm_momentum, **kwargs
        )
        self.units = units
        self.depth = depth
        self.heads = heads
        self.hidden_units = hidden_units
        self.dropout = dropout
        self.transformer_dropout = transformer_dropout
        self.log_variances = self.add_weight(
            shape=(len(self.tasks),),
            initializer="zeros",
            dtype="float32",
            name="log_variances",
        )

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        if not training:
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        # A weight of every sample of a task is one of its loss.
        weights = {}
        for index, task in enumerate(self.tasks):
            given = sample_weight
            if isinstance(sample_weight, dict):
                given = sample_weight[task]
            factor = 0.5 * ops.exp(-ops.convert_to_tensor(self.log_variances)[index])
            if given is None:
                outputs = ops.reshape(y_pred[task], (ops.shape(y_pred[task])[0], -1))
                given = ops.ones_like(outputs[:, 0])
            weights[task] = factor * ops.cast(given, "float32")
        loss = super().compute_loss(x, y, y_pred, weights, training)
        return loss + ops.sum(self.log_variances)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "depth": self.depth,
            "heads": self.heads,
            "hidden_units": list(self.hidden_units),
            "dropout": self.dropout,
            "transformer_dropout": self.transformer_dropout,
        }


def _hidden(x, widths, task):
    for number, units in enumerate(widths):
        x = keras.layers.Dense(units, dtype="float32", name=f"{task}_hidden{number}")(x)
    return x
