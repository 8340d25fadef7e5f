"""A Functional model cut in two at its first dropout."""

import dataclasses
import math

import keras
from keras import tree

from drifa_keras.uncertainty._always_on import DROPOUTS, AlwaysOn


@dataclasses.dataclass(frozen=True)
class Split:
    """The part of a network that every pass shares, and the random part.

    Attributes:
        prefix: Model from the inputs of the network to the tensors that random
            operations read, and to the outputs that are not random, as a flat list.
        suffix: Model from the tensors that random operations read, and int32 keys
            `(rows, dropouts)`, to the random outputs; `None` where there is none.
        random: For each output of the network, whether it is random.
        shared: For each dropout, whether the samples of a pass share their mask.
        prefix_bytes: Memory that one sample takes in the prefix.
        suffix_bytes: Memory that one row takes in the suffix.
    """

    prefix: keras.Model
    suffix: keras.Model | None
    random: list[bool]
    shared: list[bool]
    prefix_bytes: int
    suffix_bytes: int


def split(model, shapes) -> Split:
    """Cuts a Functional model in two, with every dropout of the second part always on.

    All layers but dropout are shared with the model.

    Args:
        model: A Functional or a built Sequential model.
        shapes: The shape of a sample of each input.

    Returns:
        A `Split`.

    Raises:
        ValueError: If the model has no graph, or a layer that is no dropout itself
            has dropout inside.
    """
    graph = require_graph(model)
    part = _Cut(graph, shapes, shared=[]).result()
    if not _is_row_by_row(part.prefix):
        part = _Cut(graph, shapes, shared=[], whole=True).result()
    return part


def require_graph(model):
    """The graph of a model, or a ValueError that says why it has none."""
    graph = graph_of(model)
    if graph is None:
        raise ValueError(
            "Monte-Carlo passes need a Functional or a built Sequential model without "
            f"a `call` of its own. Received: {type(model).__name__} "
            f"{getattr(model, 'name', '')!r}. Pass the Functional model inside it, or "
            "build the network from `keras.Input`s."
        )
    return graph


def graph_of(model):
    """The graph of a model as a plain Functional model; `None` where it has none."""
    if not isinstance(model, keras.Model) or not hasattr(model, "inputs"):
        return None
    if not isinstance(model, (keras.Function, keras.Sequential)):
        return None
    graph = keras.Model(model.inputs, model.outputs)
    known = (type(graph).call, keras.Sequential.call)
    return graph if type(model).call in known else None


def flat_inputs(model, x):
    """Puts what a model is called with into the order of `model.inputs`."""
    if isinstance(x, dict):
        names = [tensor.name for tensor in model.inputs]
        if set(names) <= set(x):
            return [x[name] for name in names]
    return tree.flatten(x)


def rates(model) -> tuple:
    """The rate of every layer of a model that is dropout, or has some built in."""
    # Keras has no public list of the layers of a layer.
    return tuple(_rate(layer) for layer in model._flatten_layers())


class _Cut:
    """One walk through a graph, which calls its operations on new tensors.

    Args:
        graph: A plain Functional model.
        shapes: The shape of a sample of each input.
        shared: Whether the mask is shared, for each dropout met so far. There is one
            column of the keys for each.
        whole: Whether all operations go into the suffix.
    """

    def __init__(self, graph, shapes, shared, whole=False):
        self.shared = shared
        self.whole = whole
        self.keys = keras.Input((None,), dtype="int32")
        self.random = {id(self.keys): self.keys}
        self.crossing = {}
        self.inputs = [
            keras.Input(shape, dtype=x.dtype, name=x.name)
            for shape, x in zip(shapes, graph.inputs, strict=True)
        ]
        self.bytes = {"prefix": _bytes(None, self.inputs), "suffix": 0}
        with_keys = keras.Model(
            [*graph.inputs, keras.Input((None,), dtype="int32")], graph.outputs
        )
        walked = keras.models.clone_model(
            with_keys,
            input_tensors=[*self.inputs, self.keys],
            clone_function=lambda operation: operation,
            call_function=self._visit,
        )
        self.outputs = walked.outputs

    def result(self):
        random = [id(x) in self.random for x in self.outputs]
        steady = [x for x in self.outputs if id(x) not in self.random]
        moving = [x for x in self.outputs if id(x) in self.random]
        frontier = list(self.crossing.values())
        return Split(
            prefix=keras.Model(self.inputs, [*frontier, *steady]),
            suffix=keras.Model([*frontier, self.keys], moving) if moving else None,
            random=random,
            shared=self.shared,
            prefix_bytes=self.bytes["prefix"],
            suffix_bytes=self.bytes["suffix"],
        )

    def _visit(self, operation, *args, **kwargs):
        inputs = args[0] if args else kwargs.get("inputs")
        if isinstance(operation, DROPOUTS) and operation.rate > 0:
            dropout = AlwaysOn(operation, column=len(self.shared))
            self.shared.append(dropout.shared)
            return self._call(None, dropout, inputs, self.keys)
        graph = graph_of(operation)
        if graph is not None:
            return self._call_model(operation, graph, inputs)
        if isinstance(operation, keras.Layer) and any(rates(operation)):
            raise ValueError(
                f"Layer {operation.name!r} of type {type(operation).__name__} has "
                "dropout inside, which Monte-Carlo passes cannot reach: its "
                "uncertainty would be left out. Build the network from layers of "
                "their own, or set the dropout of that layer to 0."
            )
        return self._call(None, operation, *args, **kwargs)

    def _call_model(self, model, graph, inputs):
        """Cuts a model within the model, and calls the two parts."""
        inputs = flat_inputs(model, inputs)
        part = _Cut(graph, [x.shape[1:] for x in inputs], self.shared).result()
        middle = tree.flatten(self._call(part.prefix_bytes, part.prefix, inputs))
        if part.suffix is None:
            return middle
        reads = len(part.suffix.inputs) - 1
        middle, steady = [*middle[:reads], self.keys], iter(middle[reads:])
        moving = self._call(part.suffix_bytes, part.suffix, middle)
        moving = iter(tree.flatten(moving))
        return [next(moving if random else steady) for random in part.random]

    def _call(self, size, operation, *args, **kwargs):
        """Calls an operation; `size` is its memory, estimated where it is `None`."""
        read = tree.flatten((args, kwargs))
        random = self.whole or any(id(x) in self.random for x in read)
        if random:
            args, kwargs = tree.map_structure(self._cross, (args, kwargs))
        outputs = operation(*args, **kwargs)
        flat = tree.flatten(outputs)
        if random:
            self.random.update((id(x), x) for x in flat)
        size = _bytes(operation, flat) if size is None else size
        self.bytes["suffix" if random else "prefix"] += size
        return outputs

    def _cross(self, x):
        """Takes a tensor of the prefix over into the suffix."""
        if not isinstance(x, keras.KerasTensor) or id(x) in self.random:
            return x
        if id(x) not in self.crossing:
            # An operation of its own: the one that made `x` may be called again in
            # the suffix, and Keras would take it for an input there.
            self.crossing[id(x)] = keras.layers.Identity(dtype=x.dtype)(x)
            self.bytes["suffix"] += _bytes(None, [x])
        crossed = self.crossing[id(x)]
        self.random[id(crossed)] = crossed
        return crossed


def _is_row_by_row(model):
    """Whether every output has one row a sample: some models fold a bag of patches."""
    samples = 7
    inputs = [keras.KerasTensor((samples, *x.shape[1:]), x.dtype) for x in model.inputs]
    outputs = tree.flatten(model.compute_output_spec(inputs))
    return all(x.shape[:1] == (samples,) for x in outputs)


def _rate(layer):
    if isinstance(layer, DROPOUTS):
        return layer.rate
    if isinstance(layer, keras.Model):
        return 0
    # Recurrent cells and attention drop without a layer for it.
    inside = (getattr(layer, name, 0) for name in ("dropout", "recurrent_dropout"))
    return max(rate if isinstance(rate, (int, float)) else 0 for rate in inside)


def _bytes(operation, outputs):
    """Estimates the memory of one sample in an operation, from above."""
    # Each layer inside makes about one tensor of the size of the output.
    is_layer = isinstance(operation, keras.Layer)
    tensors = len(operation._flatten_layers()) if is_layer else 1
    sizes = (math.prod(size or 1 for size in x.shape[1:]) for x in outputs)
    return 4 * tensors * sum(sizes)
