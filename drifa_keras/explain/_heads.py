"""The end of a classifier's graph: its logits, and the features they are read from."""

from __future__ import annotations

import keras
from keras import ops, tree

from drifa_keras.explain._graph import call_of
from drifa_keras.layers import TemperatureSoftmax


def logits_of(graph: keras.Model, output):
    """Finds the tensor in front of a softmax or sigmoid, else the output itself.

    Gradients of probabilities vanish where a network is sure of itself.

    Args:
        graph: A flat graph.
        output: The output of a task.

    Returns:
        Tensor of the shape of `output`.
    """
    call = call_of(graph, output)
    operation = None if call is None else call.operation
    squashes = (keras.activations.softmax, keras.activations.sigmoid)
    if getattr(operation, "activation", None) in squashes:
        if isinstance(operation, (keras.layers.Dense, keras.layers.Conv2D)):
            return PreActivation(operation)(tree.flatten(call.input)[0])
        if isinstance(operation, keras.layers.Activation):
            return tree.flatten(call.input)[0]
    # Layers and operations of `keras.ops` share these names.
    named = type(operation).__name__ in ("Softmax", "Sigmoid")
    if named or isinstance(operation, TemperatureSoftmax):
        return tree.flatten(call.input)[0]
    return output


def answers_of(graph: keras.Model, output) -> list:
    """Lists the output of a task and what it was before nothing more was learned.

    Of a network that classifies every pixel these are maps: the probabilities, the
    logits. They answer, and explain nothing.
    """
    answers = [output]
    while (call := call_of(graph, answers[-1])) is not None:
        sources = tree.flatten(call.input)
        weights = getattr(call.operation, "weights", ())
        if len(sources) > 1 or any(len(weight.shape) > 1 for weight in weights):
            break
        answers.append(sources[0])
    return answers


def features_of(graph: keras.Model, output):
    """Finds what the last `Dense` layer of a task reads.

    Where several `Dense` layers are combined into one output, it is what they read,
    side by side.

    Args:
        graph: A flat graph.
        output: The output of a task.

    Returns:
        Tensor `(batch, units)`, `None` where the task does not end in a `Dense` layer.
    """
    while (call := call_of(graph, output)) is not None:
        sources = tree.flatten(call.input)
        if isinstance(call.operation, keras.layers.Dense):
            return sources[0]
        if len(sources) > 1:
            calls = [call_of(graph, source) for source in sources]
            heads = [
                tree.flatten(call.input)[0]
                for call in calls
                if call is not None and isinstance(call.operation, keras.layers.Dense)
            ]
            return keras.layers.Concatenate()(heads) if len(heads) > 1 else None
        output = sources[0]
    return None


class PreActivation(keras.layers.Layer):
    """A `Dense` or `Conv2D` layer, channels last, without its activation."""

    def __init__(self, layer):
        super().__init__(dtype=layer.dtype_policy)
        self.layer = layer
        self.built = True

    def call(self, x):
        if isinstance(self.layer, keras.layers.Dense):
            x = ops.matmul(x, self.layer.kernel)
        else:
            x = self.layer.convolution_op(x, self.layer.kernel)
        return x + self.layer.bias if self.layer.use_bias else x
