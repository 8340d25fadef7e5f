"""Where the feature maps of a network come from: branches of stages."""

import difflib
import itertools
from collections import Counter

import keras

from drifa_keras.layers import MCDropout, RRABlock

_BLOCKS_PER_STAGE = 2
_STEMS = ("resnet", "small")
_INCEPTION_STAGES = ("mixed2", "mixed7", "mixed10")


class ResNet:
    """The branches of a ResNet: a stem and stages of two blocks for each modality.

    Args:
        filters: Channels of each stage.
        stem: `"resnet"` (7x7 convolution of stride 2, then a pool of stride 2) or
            `"small"` (3x3 of stride 1, then a pool of stride 2).
        block: Callable that makes a block layer from `filters`, `strides`,
            `norm_momentum`, `dtype` and `name`; a plain ResNet block by default.
        gate: Callable that makes the layer behind the convolution of the stem, or
            `None`.
        norm_momentum: Momentum of the running statistics of batch normalisation.
        dtype: Dtype policy.

    Attributes:
        places: Pairs (stage, block) in their order, counted from 0.
    """

    def __init__(
        self,
        filters,
        stem="resnet",
        block=None,
        gate=None,
        norm_momentum=0.99,
        dtype=None,
    ):
        check_choice("stem", stem, _STEMS)
        self.filters = tuple(filters)
        if not self.filters or any(
            not isinstance(f, int) or f < 1 for f in self.filters
        ):
            raise ValueError(
                "`filters` must hold a positive number of channels for each stage. "
                f"Received: filters={self.filters}."
            )
        self.stem = stem
        self.norm_momentum = norm_momentum
        self._block = block or _plain_block
        self._gate = gate
        self._policy = keras.dtype_policies.get(dtype)
        self.places = [
            (stage, index)
            for stage in range(len(self.filters))
            for index in range(_BLOCKS_PER_STAGE)
        ]

    def __len__(self):
        return len(self.filters)

    def prefix(self, name, place):
        """Beginning of the names of the layers of a block."""
        return f"{name}_stage{place[0]}_block{place[1]}"

    def open(self, name, x):
        """Convolution, gate, BN, ReLU and a pool, as in the released code."""
        kernel_size, strides = (7, 2) if self.stem == "resnet" else (3, 1)
        x = keras.layers.Conv2D(
            self.filters[0],
            kernel_size,
            strides=strides,
            padding="same",
            data_format="channels_last",
            dtype=self._policy,
            name=f"{name}_stem_conv",
        )(x)
        if self._gate is not None:
            gate = f"{name}_stem_{name_of(self._gate)}"
            x = self._gate(dtype=self._policy, name=gate)(x)
        x = keras.layers.BatchNormalization(
            momentum=self.norm_momentum, dtype=self._policy, name=f"{name}_stem_norm"
        )(x)
        x = keras.layers.ReLU(dtype=self._policy, name=f"{name}_stem_relu")(x)
        return keras.layers.MaxPooling2D(
            3,
            strides=2,
            padding="same",
            data_format="channels_last",
            dtype=self._policy,
            name=f"{name}_stem_pool",
        )(x)

    def grow(self, name, place, x):
        """The block at a place, applied to the map before it."""
        stage, index = place
        return self._block(
            filters=self.filters[stage],
            strides=2 if stage > 0 and index == 0 else 1,
            norm_momentum=self.norm_momentum,
            dtype=self._policy,
            name=self.prefix(name, place),
        )(x)


class CutBackbone:
    """The branches made of any Functional model, cut where its stages end.

    Args:
        models: Dict of modality name to a Functional model from one image to a
            feature map; one model for several modalities is copied.
        stages: Names of the layers where stages end, a list or a dict of lists by
            modality; by default those of `stage_ends`.
        shared: Whether all modalities go through one copy of one model.
        copy_weights: Whether the copies begin with the weights of the model rather
            than with fresh ones.
        centre: Whether pixels of 0..1 are brought to -1..1 first.
        dtype: Dtype policy of what this adds; the layers of the model keep theirs.

    Attributes:
        places: Pairs (stage, 0) in their order.
        models: As given.
        stages: Dict of modality name to names of layers.
    """

    def __init__(
        self,
        models,
        stages=None,
        shared=False,
        copy_weights=True,
        centre=False,
        dtype=None,
    ):
        self.models = models
        self._centre = centre
        self._policy = keras.dtype_policies.get(dtype)
        if shared and len(set(map(id, models.values()))) > 1:
            raise ValueError(
                "`shared_backbone` is for one model that serves all modalities. "
                f"Received one for each of {list(models)}: pass a single model."
            )
        if isinstance(stages, dict) and set(stages) != set(models):
            raise ValueError(
                f"`stages` as a dict must name the modalities {list(models)}. "
                f"Received: {sorted(stages)}."
            )
        self.stages, self._pieces, found = {}, {}, {}
        for name, model in models.items():
            given = stages[name] if isinstance(stages, dict) else stages
            if given is None and id(model) not in found:
                found[id(model)] = stage_ends(model)
            ends = list(found[id(model)] if given is None else given)
            self.stages[name] = ends
            if shared and self._pieces:
                self._pieces[name] = next(iter(self._pieces.values()))
                continue
            prefix = "shared" if shared else name
            self._pieces[name] = _cut(model, ends, prefix, copy_weights)
        numbers = {name: len(pieces) for name, pieces in self._pieces.items()}
        if len(set(numbers.values())) > 1:
            raise ValueError(
                "All modalities need the same number of stages, so that they can "
                f"meet. Received: {numbers}. Name them in `stages`."
            )
        self.places = [(stage, 0) for stage in range(min(numbers.values()))]

    def __len__(self):
        return len(self.places)

    def prefix(self, name, place):
        """Beginning of the names of what follows a stage."""
        return f"{name}_stage{place[0]}"

    def open(self, name, x):
        """The image, as the model expects it."""
        wanted = self.models[name].inputs[0].shape
        _check_size(name, x.shape, wanted)
        if x.shape[-1] == 1 and wanted[-1] == 3:
            x = keras.layers.Concatenate(dtype=self._policy, name=f"{name}_to_rgb")(
                [x, x, x]
            )
        if self._centre:
            x = keras.layers.Rescaling(
                2.0, offset=-1.0, dtype=self._policy, name=f"{name}_centred"
            )(x)
        return x

    def grow(self, name, place, x):
        """The stage at a place, applied to the map before it."""
        x = self._pieces[name][place[0]](x)
        if len(x.shape) != 4 or None in x.shape[1:]:
            raise ValueError(
                f"Stage {place[0]} of the backbone of {name!r}, which ends at "
                f"{self.stages[name][place[0]]!r}, gives the shape {tuple(x.shape)}: "
                "expected a feature map (batch, height, width, channels) of known "
                "size. Name another layer in `stages`."
            )
        if min(x.shape[1:3]) < 1:
            raise ValueError(
                f"The images of {name!r} are too small for its backbone: nothing is "
                f"left of the map at {self.stages[name][place[0]]!r}. Use larger ones."
            )
        return x


def cut_inception(
    shapes,
    weights=None,
    stages=None,
    shared=False,
    rescaling=1 / 255,
    norm_momentum=0.99,
    dtype=None,
):
    """Makes the branches of Inception-v3.

    Args:
        shapes: Dict of the name of each branch to the shape of its images.
        weights: `None` or `"imagenet"`.
        stages: As in `CutBackbone`; three by default, where maps shrink.
        shared: As in `CutBackbone`.
        rescaling: As in `MultimodalModel`.
        norm_momentum: Momentum of the running statistics of batch normalisation.
        dtype: Dtype policy.

    Returns:
        `CutBackbone`.
    """
    return CutBackbone(
        _inceptions(shapes, weights, norm_momentum, dtype),
        _INCEPTION_STAGES if stages is None else stages,
        shared,
        copy_weights=weights is not None,
        centre=rescaling is not None,
        dtype=dtype,
    )


def _inceptions(shapes, weights, norm_momentum, dtype):
    """An Inception-v3 for each image size, by branch."""
    policy = keras.dtype_policies.get(dtype)

    def recast(layer):
        config = {**layer.get_config(), "dtype": policy}
        if isinstance(layer, keras.layers.BatchNormalization):
            config["momentum"] = norm_momentum
        return type(layer).from_config(config)

    models = {}
    for height, width, _ in shapes.values():
        if (height, width) not in models:
            model = keras.applications.InceptionV3(
                include_top=False, weights=weights, input_shape=(height, width, 3)
            )
            # `keras.applications` knows the global policy and a momentum of 0.99 alone.
            copy = keras.models.clone_model(model, clone_function=recast)
            copy.set_weights(model.get_weights())
            models[height, width] = copy
    return {name: models[shape[:2]] for name, shape in shapes.items()}


def cut_points(model):
    """Lists the layers at which a Functional model falls into two parts.

    All that the model computes passes through the output of such a layer, a feature
    map: nothing by-passes it.

    Args:
        model: A Functional model with one input and one output.

    Returns:
        Dict of layer name to the shape of its output, from the input on.

    Raises:
        ValueError: If the model is no such model.
    """
    copy = _copy(model)
    graph = _Graph(copy)
    maps = {
        layer.name: tuple(layer.output.shape)
        for layer in copy.layers
        if layer.name in graph.calls and len(layer.output.shape) == 4
    }
    return {
        name: maps[name]
        for name in graph.calls
        if name in maps and graph.by_pass(name) is None
    }


def stage_ends(model, most=4):
    """Picks the layers where the stages of a Functional model end.

    A stage ends with the last cut point (see `cut_points`) of a map size.

    Args:
        model: A Functional model of images of a known size.
        most: How many stages there are at most; the last ones are kept.

    Returns:
        List of layer names.

    Raises:
        ValueError: If the model cannot be cut anywhere.
    """
    points = cut_points(model)
    if any(None in shape[1:] for shape in points.values()):
        raise ValueError(
            f"The maps of the backbone {model.name!r} have no known size, so that its "
            "stages have to be named. Pass the names of the layers where they end in "
            f"`stages`; it can be cut at {list(points)}."
        )
    by_size = {shape[1:3]: name for name, shape in points.items()}
    if not by_size:
        raise ValueError(
            f"The backbone {model.name!r} cannot be cut anywhere: no layer with a "
            "feature map is passed by everything. Use a network without connections "
            "that span all of it."
        )
    return list(by_size.values())[-most:]


class _Graph:
    """The calls of the layers of a Functional model.

    Attributes:
        calls: Names of the layers and operations that are called once, input layers
            left out, in the order in which they are computed.
    """

    def __init__(self, model):
        self._parents = {}
        for entry in model.get_config()["layers"]:
            for number, node in enumerate(entry["inbound_nodes"] or [None]):
                self._parents[entry["name"], number] = _sources(node)
        self._places = {}  # of each call, in the order in which they are computed
        for node in self._parents:
            self._visit(node)
        times = Counter(name for name, _ in self._places)
        self.calls = [
            name
            for name, number in self._places
            if times[name] == 1 and self._parents[name, number]
        ]

    def by_pass(self, name):
        """A call that reads past a layer: `(reader, what it reads)`, or `None`."""
        order, place = list(self._places), self._places[name, 0]
        # What the end needs without going through the layer.
        needed, queue = set(), [order[-1]]
        while queue:
            node = queue.pop()
            if node not in needed and node != (name, 0):
                needed.add(node)
                queue += self._parents[node]
        for node in order[place + 1 :]:
            for parent in self._parents[node]:
                if node in needed and self._places[parent] < place:
                    return node[0], parent[0]
        return None

    def _visit(self, node):
        stack = [node]
        while stack:
            waiting = [p for p in self._parents[stack[-1]] if p not in self._places]
            if waiting:
                stack += waiting
            else:
                self._places.setdefault(stack.pop(), len(self._places))


def _sources(value):
    """The calls that the arguments of a call come from, `(layer name, number)`."""
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        name, number, _ = value["config"]["keras_history"]
        return [(name, number)]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [source for item in value for source in _sources(item)]
    return []


def _copy(model):
    """A copy of a backbone with fresh weights, whose graph is nobody else's."""
    if not isinstance(model, keras.Model) or not getattr(model, "outputs", None):
        raise ValueError(
            'A backbone is "resnet18", "inception_v3" or a Functional Keras model (or '
            f"built Sequential). Received: {model!r}."
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            "A backbone has one input and one output. Received: the model "
            f"{model.name!r} with {len(model.inputs)} inputs and {len(model.outputs)} "
            "outputs. Make one with `keras.Model(model.inputs[0], <the last map>)`."
        )
    return keras.models.clone_model(keras.Model(model.inputs[0], model.outputs[0]))


def _cut(model, ends, prefix, copy_weights):
    """The stages of a copy of a model, as models."""
    copy = _copy(model)
    if copy_weights:
        copy.set_weights(model.get_weights())
    graph, known = _Graph(copy), {layer.name for layer in copy.layers}
    places = []
    for name in ends:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"Did you mean {close[0]!r}? " if close else ""
            raise ValueError(
                f"The backbone {model.name!r} has no layer {name!r}. {hint}It can be "
                f"cut at {list(cut_points(model))}."
            )
        if name not in graph.calls:
            raise ValueError(
                f"The backbone {model.name!r} cannot be cut at {name!r}, which is its "
                f"input or called several times. It can be cut at "
                f"{list(cut_points(model))}."
            )
        past = graph.by_pass(name)
        if past is not None:
            raise ValueError(
                f"The backbone {model.name!r} cannot be cut at {name!r}: {past[0]!r} "
                f"reads {past[1]!r} past it. It can be cut at "
                f"{list(cut_points(model))}."
            )
        places.append(graph.calls.index(name))
    if not ends or sorted(set(places)) != places:
        raise ValueError(
            "`stages` must name at least one layer, each once, from the input on. "
            f"Received: {ends}."
        )
    # All are looked up before the first piece adds calls to the layers.
    tensors = [copy.inputs[0], *(copy.get_layer(name).output for name in ends)]
    return [
        keras.Model(start, end, name=f"{prefix}_stage{stage}")
        for stage, (start, end) in enumerate(itertools.pairwise(tensors))
    ]


def _check_size(name, received, wanted):
    fits = all(w in (None, r) for r, w in zip(received[1:3], wanted[1:3], strict=True))
    channels = received[-1] == wanted[-1] or wanted[-1] is None
    channels = channels or (received[-1], wanted[-1]) == (1, 3)
    if not fits or not channels:
        raise ValueError(
            f"The backbone of {name!r} takes images {tuple(wanted[1:])}, and the "
            f"modality has {tuple(received[1:])}. Build the backbone with "
            f"`input_shape={tuple(received[1:])}`, or give the modality its size."
        )


def drop(x, rate, name, dtype):
    """Dropout, where the rate is above 0."""
    if not rate:
        return x
    return MCDropout(rate, dtype=dtype, name=f"{name}_dropout")(x)


def check_choice(argument, value, choices):
    """Raises a `ValueError` if `value` is not one of `choices`."""
    if value not in choices:
        raise ValueError(
            f"`{argument}` must be one of {list(choices)}. Received: "
            f"{argument}={value!r}."
        )


def name_of(part):
    """Name of the layers that a `functools.partial` of a class makes."""
    return part.func.__name__.lower()


def _plain_block(**arguments):
    return RRABlock(mfa=False, **arguments)
