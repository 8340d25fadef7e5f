"""Shared helpers of the attention layers.

A layer that needs several `C x C` matrices keeps them in one variable: each
variable costs every optimizer a few operations a step, and TensorFlow tens of
milliseconds before the first one.
"""

import itertools
import math

import keras
from keras import ops


def stacked(initializer, matrices):
    """Returns an initializer for a stack of matrices, each drawn on its own.

    Drawing the whole stack at once would let fan-based initializers such as
    Glorot see the wrong fan, and shrink every matrix.

    Args:
        initializer: The `keras.initializers.Initializer` of a single matrix.
        matrices: List of `(rows, columns)`; `rows` is a multiple of `columns`
            and a matrix of `k * columns` rows fills `k` slices of the stack.

    Returns:
        A callable `(shape, dtype)`, as `add_weight(initializer=...)` takes it.
    """

    def initialize(shape, dtype=None):
        config = initializer.get_config()
        slices = []
        for index, matrix in enumerate(matrices):
            # Clones of an initializer with an integer seed would all draw the
            # same matrix.
            if isinstance(config.get("seed"), int):
                config_of_slice = {**config, "seed": config["seed"] + index}
            else:
                config_of_slice = config
            draw = type(initializer).from_config(config_of_slice)
            slices.append(ops.reshape(draw(matrix, dtype=dtype), (-1, *shape[1:])))
        return ops.concatenate(slices, axis=0)

    return initialize


def unstack(variable):
    """Splits a packed variable, or its value, along its first axis.

    The gradient of one unstack is one stack; a slice for each part would write as
    many tensors of the full size and add them up.
    """
    return ops.unstack(ops.convert_to_tensor(variable))


def spatial_mean(x, keepdims=False):
    """Mean over height and width, accumulated in float32."""
    # The gradient of `ops.mean` would divide a whole map, and not its mean.
    total = ops.sum(ops.cast(x, "float32"), axis=(1, 2), keepdims=keepdims)
    _, height, width, _ = ops.shape(x)
    return ops.cast(total / ops.cast(height * width, "float32"), x.dtype)


def spatial_max(x, keepdims=False, scale=0.0):
    """Maximum over height and width, with a gradient that is finite once compiled.

    The stock gradient divides by the number of elements that equal the maximum. A
    compiler that works out `x` anew for the backward pass may round it otherwise and
    find none: 0 / 0. Here all elements within rounding of the maximum share it.

    Args:
        x: Map `(batch, height, width, channels)`.
        keepdims: Whether to keep height and width as axes of length 1.
        scale: Size of the numbers that `x` is a sum of, where it may be larger than
            the maximum.
    """
    return _pooled(ops.max, ops.greater_equal, -1, x, keepdims, scale)


def spatial_min(x, keepdims=False):
    """Minimum over height and width; see `spatial_max`."""
    return _pooled(ops.min, ops.less_equal, 1, x, keepdims)


def _pooled(reduce, beyond, inwards, x, keepdims, scale=0.0):
    wide = keras.backend.standardize_dtype(x.dtype) in ("float32", "float64")
    rounding = inwards * (1e-6 if wide else 2**-7)

    @ops.custom_gradient
    def pool(x):
        found = reduce(x, axis=(1, 2), keepdims=True)

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            # TensorFlow works `near` out in the forward pass, as nothing in it waits
            # for the upstream gradient, and keeps it: a quarter of a map as long as it
            # is bool.
            size = ops.maximum(ops.abs(found), scale)
            near = beyond(x, found + rounding * size)
            count = ops.sum(ops.cast(near, "float32"), axis=(1, 2), keepdims=True)
            share = ops.cast(upstream, "float32") / ops.maximum(count, 1.0)
            return ops.where(near, ops.cast(share, x.dtype), ops.zeros((), x.dtype))

        return found, gradient

    found = pool(x)
    return found if keepdims else ops.squeeze(found, axis=(1, 2))


def require_map(layer, input_shape):
    """Raises a `ValueError` unless `input_shape` is `(batch, H, W, channels)`."""
    if len(input_shape) != 4 or input_shape[-1] is None:
        raise ValueError(
            f"Layer {layer.name!r} takes a feature map of shape (batch, height, "
            "width, channels) with a known number of channels. Received: "
            f"input shape {tuple(input_shape)}. Reshape the input, or place the "
            "layer before pooling."
        )


def require_list(layer, input_shapes):
    """Raises a `ValueError` unless `input_shapes` are a list of map shapes."""
    if (
        not isinstance(input_shapes, (list, tuple))
        or not input_shapes
        or not isinstance(input_shapes[0], (list, tuple))
    ):
        raise ValueError(
            f"Layer {layer.name!r} takes a list of feature maps, one a modality. "
            f"Received: input shape {input_shapes}. Wrap a single map in a list."
        )
    for shape in input_shapes:
        require_map(layer, shape)


def require_maps(layer, input_shapes):
    """Raises a `ValueError` unless `input_shapes` are equal feature map shapes."""
    require_list(layer, input_shapes)
    if len({tuple(shape[1:]) for shape in input_shapes}) > 1:
        shapes = ", ".join(str(tuple(shape[1:])) for shape in input_shapes)
        raise ValueError(
            f"Layer {layer.name!r} fuses maps of equal height, width and channels. "
            f"Received: {shapes} in the order of the modalities. Resize the images "
            "to one size, or give every branch the same strides and filters."
        )


def require_presence(layer, presence, modalities):
    """Raises a `ValueError` unless `presence` is `None` or `(batch, modalities)`."""
    if presence is None:
        return
    shape = tuple(presence.shape)
    if len(shape) != 2 or shape[1] != modalities:
        raise ValueError(
            f"Layer {layer.name!r} takes `presence` of shape (batch, {modalities}), "
            f"one column a modality. Received: shape {shape}."
        )


def sum_over_modalities(values, presence):
    """Computes `m / (sum_i r_i) * sum_i r_i values_i`, the plain sum if all are there.

    Args:
        values: List of `m` tensors `(batch, ...)` of one shape.
        presence: `None` (all are there) or 0/1 tensor `(batch, m)`.
    """
    if presence is None:
        return sum(values[1:], values[0])
    presence = ops.cast(presence, "float32")
    share = len(values) / ops.maximum(ops.sum(presence, axis=1, keepdims=True), 1.0)
    weights = ops.cast(presence * share, values[0].dtype)
    return sum(
        value * of_modality(weights, index, value.ndim)
        for index, value in enumerate(values)
    )


def only_present(inputs, presence):
    """Maps `(batch, height, width, channels)`, zero where a modality is absent."""
    if presence is None:
        return inputs
    return [
        x * ops.cast(of_modality(presence, index, 4), x.dtype)
        for index, x in enumerate(inputs)
    ]


def of_modality(presence, index, rank):
    """Column `index` of `presence`, shaped to multiply a tensor of `rank` axes."""
    return ops.reshape(presence[:, index], (-1,) + (1,) * (rank - 1))


class PackedKernelLayer(keras.layers.Layer):
    """A layer whose matrices sit in one `kernel`, their biases in one `bias`."""

    def __init__(self, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def _add_matrices(self, matrices):
        """Adds `kernel` (slices, C, C) and `bias` (matrices, C).

        Args:
            matrices: List of `(rows, C)`, as in `stacked`.
        """
        channels = matrices[0][1]
        slices = sum(rows // channels for rows, _ in matrices)
        self.kernel = self.add_weight(
            shape=(slices, channels, channels),
            initializer=stacked(self.kernel_initializer, matrices),
            name="kernel",
        )
        self.bias = self.add_weight(
            shape=(len(matrices), channels), initializer="zeros", name="bias"
        )

    def get_config(self):
        return {
            **super().get_config(),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


class MapDescriptor(PackedKernelLayer):
    """Base of HIFA and CLIA: from a map `(batch, H, W, C)` to a vector `(batch, C)`.

    A subclass computes it in `describe`, from the map and the values of `kernel` and
    `bias`. `keras.RematScope` repeats that alone in the backward pass, where Keras
    neither casts variables nor knows those of `stateless_call`.
    """

    def call(self, x):
        return self.describe(x, *self._values())

    def rematerialized_call(self, layer_call, *args, **kwargs):
        describe = super().rematerialized_call(self.describe, *args, **kwargs)
        return lambda x: describe(x, *self._values())

    def _values(self):
        return ops.convert_to_tensor(self.kernel), ops.convert_to_tensor(self.bias)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1])


class OmegaLayer(keras.layers.Layer):
    """Base of MFA, MIFA and EMCAM: switches, and the omegas in one vector `omega`.

    Args:
        switches: Argument name -> bool, as the subclass takes them.
    """

    def __init__(self, switches, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self._switches = {name: bool(value) for name, value in switches.items()}
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.omega = None
        self._omega_shapes = {}

    def _add_omegas(self, **shapes):
        """Adds `omega`, the omegas that are switched on end to end, all ones."""
        self._omega_shapes = {
            name: shape
            for name, shape in shapes.items()
            if shape is not None and self._switches.get(name, True)
        }
        size = sum(math.prod(shape) for shape in self._omega_shapes.values())
        if size:
            self.omega = self.add_weight(
                shape=(size,), initializer="ones", name="omega"
            )

    def _split_omegas(self):
        """Returns the omegas by name, `None` where absent.

        One split has a cheaper gradient than a slice for each.
        """
        omegas = dict.fromkeys(("omega_d", "omega_l", "omega_c"))
        if self._omega_shapes:
            sizes = [math.prod(shape) for shape in self._omega_shapes.values()]
            ends = list(itertools.accumulate(sizes))
            whole = ops.convert_to_tensor(self.omega)
            parts = ops.split(whole, ends[:-1]) if len(ends) > 1 else [whole]
            for (name, shape), part in zip(
                self._omega_shapes.items(), parts, strict=True
            ):
                omegas[name] = ops.reshape(part, shape)
        return omegas

    @property
    def omega_d(self):
        """Weight of the first branch, shape `()`; `None` where absent."""
        return self._split_omegas()["omega_d"]

    @property
    def omega_l(self):
        """Weight of the second branch, `(channels,)`; `None` where absent."""
        return self._split_omegas()["omega_l"]

    @property
    def omega_c(self):
        """Weight of each channel of the output; `None` where absent."""
        return self._split_omegas()["omega_c"]

    def _child(self, cls, **kwargs):
        """Creates a branch with this layer's dtype and initializer."""
        return cls(
            kernel_initializer=self.kernel_initializer,
            dtype=self.dtype_policy,
            name=cls.__name__.lower(),
            **kwargs,
        )

    def get_config(self):
        return {
            **super().get_config(),
            **self._switches,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def scaled(value, omega):
    """Multiplies by an omega that may be absent."""
    return value if omega is None else value * omega
