"""What a network costs: parameters and multiply-adds."""

import dataclasses
import math

import keras

_CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
)
_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)


@dataclasses.dataclass(frozen=True)
class Cost:
    """Cost of a network for one sample.

    Attributes:
        parameters: Number of weights, trainable or not.
        trainable_parameters: Number of trainable weights.
        multiply_adds: Multiplications with additions in one forward pass.
    """

    parameters: int
    trainable_parameters: int
    multiply_adds: int


def cost(model):
    """Counts the parameters and multiply-adds of a Functional Keras model.

    Counted are convolutions and matrix products, as is the custom; element-wise
    operations, pooling, normalisation and the logistic functions of the attention
    are not, though on a CPU they take a good part of the time.

    Args:
        model: A Functional `keras.Model`. Layers of your own that multiply by
            matrices give their count in a method `multiply_adds(input_shape)`.

    Returns:
        A `Cost`.

    Raises:
        ValueError: If a layer holds matrices and says nothing of its count, or if
            an input has no fixed size.
    """
    return Cost(
        parameters=model.count_params(),
        trainable_parameters=sum(
            math.prod(variable.shape) for variable in model.trainable_variables
        ),
        multiply_adds=_multiply_adds_of_model(model),
    )


def _multiply_adds_of_model(model):
    # The config of a plain Functional model lists every call of every layer with
    # the shapes of its inputs.
    plain = keras.Model(model.inputs, model.outputs)
    layers = {layer.name: layer for layer in plain.layers}
    total = 0
    for entry in plain.get_config()["layers"]:
        layer = layers.get(entry["name"])
        if layer is None:  # an operation such as `x + 1`
            continue
        for node in entry["inbound_nodes"]:
            shapes = _shapes(node["args"])
            if shapes is not None:
                total += _multiply_adds(layer, shapes)
    return total


def _shapes(value):
    """Shapes of the tensors of a call's first argument, nested as they were."""
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        return tuple(value["config"]["shape"])
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        shapes = [shape for shape in map(_shapes, value) if shape is not None]
        return shapes or None
    return None


def _multiply_adds(layer, call_shapes):
    shape = call_shapes[0]
    if hasattr(layer, "multiply_adds"):
        return layer.multiply_adds(shape)
    if isinstance(layer, keras.Model):
        return _multiply_adds_of_model(layer)
    if isinstance(layer, _CONVOLUTIONS):
        positions = layer.compute_output_shape(shape)[1:-1]
        if layer.data_format == "channels_first":
            positions = layer.compute_output_shape(shape)[2:]
        return math.prod(layer.kernel.shape) * _product(layer, positions)
    if isinstance(layer, (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)):
        positions = _product(layer, layer.compute_output_shape(shape)[1:-1])
        depthwise = math.prod(layer.depthwise_kernel.shape)
        return (depthwise + math.prod(layer.pointwise_kernel.shape)) * positions
    if isinstance(layer, _TRANSPOSED):
        return math.prod(layer.kernel.shape) * _product(layer, shape[1:-1])
    if isinstance(layer, keras.layers.Dense):
        return math.prod(layer.kernel.shape) * _product(layer, shape[1:-1])
    if any(len(weight.shape) > 1 for weight in layer.weights):
        raise ValueError(
            f"Layer {layer.name!r} of type {type(layer).__name__} holds matrices, but "
            "its multiply-adds are not known. Give the class a method "
            "`multiply_adds(input_shape)` that returns them for one sample."
        )
    return 0


def _product(layer, sizes):
    if any(size is None for size in sizes):
        raise ValueError(
            f"Layer {layer.name!r} has maps of unknown size. Build the model with "
            "fixed image sizes to count its multiply-adds."
        )
    return math.prod(sizes)
