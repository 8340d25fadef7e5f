"""Which feature map shows what a task makes of an input image."""

from __future__ import annotations

from dataclasses import dataclass

import keras
from keras import tree

from drifa_keras.explain._graph import calls, feeds, is_map, reached_from, streams
from drifa_keras.explain._heads import answers_of

# Cells along the shorter side below which a map is too coarse to point with: those of
# the last map of a ResNet at 224 px, for which Grad-CAM was made.
_FINE = 7


@dataclass(frozen=True)
class FeatureMap:
    """A feature map of a flat graph.

    Attributes:
        call: Name of the call that computes it.
        index: Its position among the outputs of that call.
        place: The layer, as users name it.
        shape: (height, width, channels).
        rank: How well it suits to explain an input, best first: 0 if it is part of
            the stream of that input alone and the task learns nothing of the input
            but through it; 1 if it is part of the stream, but can be bypassed (which
            does not count where every pixel is classified); 2 and 3 the same for maps
            in which the streams of several inputs have become one; 4 if nothing has
            been learned on the way to it.
    """

    call: str
    index: int
    place: str
    shape: tuple[int, int, int]
    rank: int


def feature_maps(graph: keras.Model, output, name: str) -> list[FeatureMap]:
    """Lists the feature maps between an input and an output of a flat graph.

    Args:
        graph: The graph.
        output: The output of a task.
        name: Name of the input.

    Returns:
        The maps in the order in which they are computed; those in the stream of
        another input are left out, the answers of the task itself, and maps of bools or
        integers, such as the places of maxima, which have no gradient.
    """
    reached, stream = reached_from(graph, name), streams(graph)
    before, after = _paths(graph, output, name)
    everything = before.get(id(output), 0)
    answers = [id(x) for x in answers_of(graph, output)] if is_map(output) else []
    maps = []
    for call in calls(graph):
        for index, x in enumerate(tree.flatten(call.output)):
            key = id(x)
            shared = stream[key] is None
            if not is_map(x) or key not in reached or key in answers:
                continue
            if not keras.backend.is_float_dtype(x.dtype):
                continue
            if stream[key] not in (name, None):
                continue
            paths = before.get(key, 0) * after.get(key, 0)
            # Networks that classify pixels lead around every deep map.
            bypassed = paths < everything and not answers
            rank = 2 * shared + bypassed if paths else 4
            maps.append(
                FeatureMap(call.name, index, call.place, tuple(x.shape[1:]), rank)
            )
    return maps


def finest_deep_map(maps: list[FeatureMap]) -> FeatureMap:
    """Picks the last map that is just fine enough, of the best rank there is.

    Maps grow again in a decoder: of what lies behind a finer one there, little is left.
    """
    best = min(m.rank for m in maps)
    maps = [m for m in maps if m.rank == best]
    fine = min(_FINE, max(_cells(m) for m in maps))
    fine = min(_cells(m) for m in maps if _cells(m) >= fine)
    return [m for m in maps if _cells(m) == fine][-1]


def _cells(feature_map):
    return min(feature_map.shape[:2])


def _paths(graph, output, name):
    """Counts the paths to each tensor, and from each tensor to the output.

    Paths begin at the first learned layers behind an input. A tensor through which as
    many lead as there are in all cannot be bypassed. A way without anything learned,
    such as the mask of which images are present, says nothing of an image's content
    and does not count.
    """
    touched = {id(x) for x in graph.inputs if x.name == name}
    before, after = {}, {id(output): 1}
    for call in calls(graph):
        weights = getattr(call.operation, "weights", ())
        learns = any(len(weight.shape) > 1 for weight in weights)
        for x, sources in feeds(call):
            if any(id(y) in touched for y in sources):
                touched.add(id(x))
                paths = sum(before.get(id(y), 0) for y in sources)
                before[id(x)] = paths or int(learns)
    for call in reversed(calls(graph)):
        for x, sources in feeds(call):
            for y in sources:
                after[id(y)] = after.get(id(y), 0) + after.get(id(x), 0)
    return before, after
