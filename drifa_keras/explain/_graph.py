"""The graph of a Functional model laid open: nested models inlined, calls named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import keras
from keras import tree


class Call(keras.layers.Layer):
    """One call of a layer or operation, as a layer of its own.

    A layer may be called several times, and layers of different nested models may
    share a name; a call is there once and has a name of its own. Making one leaves no
    trace in the layer, which belongs to the user's model.

    Args:
        operation: The layer or operation.
        place: Its name, behind those of the models that it is nested in: "a/b/c".
        arguments: The structure of its arguments `(args, kwargs)`, with symbolic
            tensors in it.
        name: Name of the call.
    """

    def __init__(self, operation, place, arguments, name):
        super().__init__(name=name, autocast=False)
        self.operation = operation
        self.place = place
        self._arguments = lambda: arguments  # Keras looks into a dict, not a function
        self.built = True

    def call(self, tensors):
        args, kwargs = self._fill(tensors)
        return self.operation(*args, **kwargs)

    def compute_output_spec(self, tensors):
        args, kwargs = self._fill(tensors)
        return self.operation.compute_output_spec(*args, **kwargs)

    def _fill(self, tensors):
        tensors = iter(tensors)
        return tree.map_structure(
            lambda leaf: next(tensors) if _is_symbolic(leaf) else leaf,
            self._arguments(),
        )


def lay_open(
    model: keras.Model,
    outputs: list,
    sizes: dict[str, tuple[int, ...]],
    visit: Callable | None = None,
    composites: tuple[type, ...] = (),
) -> tuple[dict, list]:
    """Builds the graph of a model again, flat, from `Call`s that share its weights.

    Models and Sequentials nested in it, to any depth, are inlined.

    Args:
        model: A Functional model.
        outputs: The tensors of its graph to compute.
        sizes: Input name to its shape without the batch axis, all sizes known.
        visit: Function `(call, args, kwargs, outputs) -> outputs` that may look at
            each call and put other tensors in place of its outputs.
        composites: Classes of layers that are inlined too, by what they call.

    Returns:
        The new inputs by name, and the new outputs. `keras.Model` makes a model of
        them.
    """
    taken = Counter()

    def enter(operation, args, kwargs, place):
        if _is_graph(operation):
            inner = operation.inputs, operation.outputs
            return inline(*inner, tree.flatten(args[0]), f"{place}/")
        if isinstance(operation, composites):
            inputs = [keras.Input(x.shape[1:], dtype=x.dtype) for x in args]
            inner = inputs, tree.flatten(operation.call(*inputs))
            return inline(*inner, list(args), f"{place}/")
        taken[place] += 1
        number = f".{taken[place]}" if taken[place] > 1 else ""
        arguments = (args, kwargs)
        call = Call(operation, place, arguments, place.replace("/", ".") + number)
        result = call([leaf for leaf in tree.flatten(arguments) if _is_symbolic(leaf)])
        return result if visit is None else visit(call, args, kwargs, result)

    def inline(inputs, outputs, new_inputs, prefix):
        # The ends tell the outputs among the tensors that pass by. What `clone_model`
        # returns is not needed, so that they give it something trivial.
        ends = [keras.layers.Identity() for _ in outputs]
        graph = keras.Model(
            inputs, [end(x) for end, x in zip(ends, outputs, strict=True)]
        )
        found = {}

        def step(operation, *args, **kwargs):
            if operation in ends:
                found[ends.index(operation)] = args[0]
                return operation(new_inputs[0])
            return enter(operation, args, kwargs, prefix + operation.name)

        keras.models.clone_model(graph, new_inputs, lambda layer: layer, step)
        return [found[index] for index in range(len(ends))]

    new_inputs = {
        x.name: keras.Input(sizes[x.name], dtype=x.dtype, name=x.name)
        for x in model.inputs
    }
    new_outputs = inline(model.inputs, outputs, list(new_inputs.values()), "")
    return new_inputs, new_outputs


def calls(graph: keras.Model) -> list[Call]:
    """The calls of a flat graph, in the order in which they are computed."""
    return [layer for layer in graph.layers if isinstance(layer, Call)]


def call_of(graph: keras.Model, tensor) -> Call | None:
    """The call that computes a tensor of a flat graph; `None` for an input."""
    for call in calls(graph):
        if any(x is tensor for x in tree.flatten(call.output)):
            return call
    return None


def is_map(tensor) -> bool:
    """Whether a tensor is a feature map `(batch, H, W, channels)` of several cells."""
    return len(tensor.shape) == 4 and tensor.shape[1] > 1 and tensor.shape[2] > 1


def feeds(call: Call) -> list[tuple]:
    """Pairs a call's outputs with the tensors that each is made from.

    A call that turns m maps into m maps, as the fusion of modalities does, keeps m
    streams apart: each output continues the map at its own position. Otherwise every
    output is made from all that came.
    """
    came, made = tree.flatten(call.input), tree.flatten(call.output)
    maps = [x for x in came if is_map(x)]
    if len(made) == len(maps) > 1:
        return [(x, [y]) for x, y in zip(made, maps, strict=True)]
    return [(x, came) for x in made]


def streams(graph: keras.Model) -> dict:
    """Finds the input whose stream each tensor of a flat graph is part of.

    Returns:
        Dict of the id of a tensor to the name of an input. It is `None` for what is
        no map, and where the streams of several inputs have become one map.
    """
    stream = {id(x): x.name if is_map(x) else None for x in graph.inputs}
    for call in calls(graph):
        for x, sources in feeds(call):
            names = {stream[id(y)] for y in sources if is_map(y)}
            stream[id(x)] = names.pop() if len(names) == 1 and is_map(x) else None
    return stream


def reached_from(graph: keras.Model, name: str) -> set:
    """The ids of the tensors of a flat graph that depend on an input."""
    reached = {id(x) for x in graph.inputs if x.name == name}
    for call in calls(graph):
        if any(id(x) in reached for x in tree.flatten(call.input)):
            reached |= {id(x) for x in tree.flatten(call.output)}
    return reached


def _is_symbolic(value):
    return isinstance(value, keras.KerasTensor)


def _is_graph(operation):
    """Whether this is a model whose graph says what it computes."""
    is_model = isinstance(operation, (keras.Function, keras.Sequential))
    # A subclass may have a `call` that does something else.
    return is_model and type(operation).call.__module__.startswith("keras.")
