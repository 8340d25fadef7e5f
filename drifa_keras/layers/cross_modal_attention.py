"""Attention from the cells of one modality's map to those of the others'."""

import math

import keras
from keras import ops

from drifa_keras.layers._packing import (
    of_modality,
    require_list,
    require_presence,
    stacked,
    unstack,
)

# What the softmax sees of a key that is left out; -inf would give NaN where all are.
_LEFT_OUT = -1e30


@keras.saving.register_keras_serializable(package="drifa_keras")
class CrossModalAttention(keras.layers.Layer):
    """Cross-modal attention: every modality looks at all the others.

    The cells of a map are its tokens, the rows of `x_i`:

    ```
    Q_i = x_i W_Q,i + b_Q,i     K_j = x_j W_K,j     V_j = x_j W_V,j + b_V,j
    y_i = softmax(Q_i K^T / sqrt(units / heads)) V
    ```

    where `K` and `V` hold the rows of all `K_j` and `V_j` with j != i. With several
    heads each has its share of the columns, and the results stand side by side. (A
    bias of `K_j` would shift all scores of a query alike.) What follows, such as a
    projection or a residual connection, is left to the network.

    With two modalities this is co-attention: each guides the other. `own=True` with
    `shared=True` is the self-attention of a Transformer over all tokens of all
    modalities.

    Reference: Vaswani et al., *Attention Is All You Need*, NeurIPS 2017, Eq. 1, and
    Lu et al., *ViLBERT*, NeurIPS 2019, Fig. 2b for queries of one modality on keys and
    values of another.

    Args:
        heads: Number of heads, a divisor of the channels and of `units`.
        units: Columns of queries and keys, all heads together; the number of
            channels by default.
        own: Whether a modality looks at its own tokens, too.
        shared: Whether all modalities have the same matrices.
        key_size: Largest side of the maps that keys and values are made from. A larger
            map is averaged over windows first; what no whole window covers at its
            right and lower edge is left out. By default none is.
        kernel_initializer: Initializer of each matrix.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: List of m >= 2 feature maps `(batch, height, width, channels)`, one a
            modality, of equal channels; m = 1 is enough with `own=True`.
        presence: 0/1 tensor `(batch, m)`; by default all are present. An absent
            modality is looked at by none, and leaves the layer as zeros, as does one
            that has nothing to look at.

    Returns:
        List of m maps of the shapes of the inputs.

    Attributes:
        kernel: `(2 n, channels, units)`: W_Q, W_K of the first modality, then of the
            next; n is 1 where they are shared, else m.
        value_kernel: `(n, channels, channels)`: W_V.
        bias: `(n, units)`: b_Q.
        value_bias: `(n, channels)`: b_V.
    """

    def __init__(
        self,
        heads=1,
        units=None,
        own=False,
        shared=False,
        key_size=None,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        for name, value in (("heads", heads), ("units", units), ("key_size", key_size)):
            optional = name != "heads" and value is None
            if not optional and (not isinstance(value, int) or value < 1):
                raise ValueError(
                    f"`{name}` must be a positive integer. Received: {name}={value!r}."
                )
        self.heads = heads
        self.units = units
        self.own = bool(own)
        self.shared = bool(shared)
        self.key_size = key_size
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        require_list(self, input_shape)
        channels = input_shape[0][-1]
        if any(shape[-1] != channels for shape in input_shape):
            raise ValueError(
                f"Layer {self.name!r} takes maps of equal channels. Received: "
                f"{[tuple(shape) for shape in input_shape]}. Give every branch the "
                "same filters, or a 1x1 convolution at its end."
            )
        if len(input_shape) == 1 and not self.own:
            raise ValueError(
                f"Layer {self.name!r} looks from each modality at the others. "
                "Received: one map. Add a modality, or pass `own=True`."
            )
        for shape in input_shape:
            self._window(shape)
        units = self._units(channels)
        if channels % self.heads or units % self.heads:
            raise ValueError(
                f"`heads` must divide the channels and `units`. Received: "
                f"heads={self.heads}, {channels} channels, units={units}."
            )
        count = 1 if self.shared else len(input_shape)
        self.kernel = self._stack("kernel", 2 * count, channels, units)
        self.value_kernel = self._stack("value_kernel", count, channels, channels)
        self.bias = self.add_weight(
            shape=(count, units), initializer="zeros", name="bias"
        )
        self.value_bias = self.add_weight(
            shape=(count, channels), initializer="zeros", name="value_bias"
        )

    def _stack(self, name, count, rows, columns):
        return self.add_weight(
            shape=(count, rows, columns),
            initializer=stacked(self.kernel_initializer, [(rows, columns)] * count),
            name=name,
        )

    def call(self, inputs, presence=None):
        require_presence(self, presence, len(inputs))
        queries, keys, values = self._project(inputs)
        outputs = []
        for index, x in enumerate(inputs):
            at = [j for j in range(len(inputs)) if self.own or j != index]
            there = None
            if presence is not None:
                there = ops.concatenate(
                    [
                        ops.cast(presence[:, j : j + 1], "float32")
                        * ops.ones_like(keys[j][:, :, 0], dtype="float32")
                        for j in at
                    ],
                    axis=1,
                )  # (batch, keys)
            y = self._attend(
                queries[index],
                ops.concatenate([keys[j] for j in at], axis=1),
                ops.concatenate([values[j] for j in at], axis=1),
                there,
            )
            y = ops.reshape(y, ops.shape(x))
            if presence is not None:
                y = y * ops.cast(of_modality(presence, index, 4), y.dtype)
            outputs.append(y)
        return outputs

    def _project(self, inputs):
        """Queries, keys and values of each modality, `(batch, tokens, columns)`."""
        kernels, value_kernels = unstack(self.kernel), unstack(self.value_kernel)
        biases, value_biases = unstack(self.bias), unstack(self.value_bias)
        queries, keys, values = [], [], []
        for index, x in enumerate(inputs):
            place = 0 if self.shared else index
            tokens, looked_at = _tokens(x), _tokens(self._pooled(x))
            queries.append(ops.matmul(tokens, kernels[2 * place]) + biases[place])
            keys.append(ops.matmul(looked_at, kernels[2 * place + 1]))
            values.append(
                ops.matmul(looked_at, value_kernels[place]) + value_biases[place]
            )
        return queries, keys, values

    def _attend(self, queries, keys, values, there):
        queries = self._split(queries / math.sqrt(queries.shape[-1] / self.heads))
        scores = ops.einsum("bqhc,bkhc->bhqk", queries, self._split(keys))
        scores = ops.cast(scores, "float32")
        if there is not None:
            there = there[:, None, None, :]
            scores = ops.where(there > 0, scores, _LEFT_OUT)
        weights = ops.softmax(scores, axis=-1)
        if there is not None:  # where all are left out, all have a weight
            weights = weights * there
        weights = ops.cast(weights, values.dtype)
        return ops.einsum("bhqk,bkhc->bqhc", weights, self._split(values))

    def _split(self, x):
        """(batch, tokens, columns) -> (batch, tokens, heads, columns of a head)."""
        batch, tokens, columns = ops.shape(x)
        return ops.reshape(x, (batch, tokens, self.heads, columns // self.heads))

    def _pooled(self, x):
        window = self._window(x.shape)
        if window == (1, 1):
            return x
        return ops.average_pool(
            x, window, strides=window, padding="valid", data_format="channels_last"
        )

    def _window(self, shape):
        if self.key_size is None:
            return (1, 1)
        if None in shape[1:3]:
            raise ValueError(
                f"Layer {self.name!r} with `key_size` takes maps of known size. "
                f"Received: shape {tuple(shape)}."
            )
        return tuple(math.ceil(size / self.key_size) for size in shape[1:3])

    def _units(self, channels):
        return channels if self.units is None else self.units

    def compute_output_shape(self, input_shape):
        return [tuple(shape) for shape in input_shape]

    def multiply_adds(self, input_shape):
        """Multiply-adds for one sample of m maps `(batch, H, W, C)`."""
        channels = input_shape[0][-1]
        units = self._units(channels)
        tokens = [math.prod(shape[1:3]) for shape in input_shape]
        keys = [
            math.prod(
                size // window
                for size, window in zip(shape[1:3], self._window(shape), strict=True)
            )
            for shape in input_shape
        ]
        projections = channels * units * (sum(tokens) + sum(keys))
        projections += channels * channels * sum(keys)
        pairs = sum(
            n * k
            for i, n in enumerate(tokens)
            for j, k in enumerate(keys)
            if self.own or j != i
        )
        return projections + pairs * (units + channels)

    def get_config(self):
        return {
            **super().get_config(),
            "heads": self.heads,
            "units": self.units,
            "own": self.own,
            "shared": self.shared,
            "key_size": self.key_size,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def _tokens(x):
    """(batch, height, width, channels) -> (batch, height * width, channels)."""
    return ops.reshape(x, (ops.shape(x)[0], -1, x.shape[-1]))
