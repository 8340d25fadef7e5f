"""Grad-CAM: where in each image the evidence for a class lies."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops, tree

from drifa_keras.explain._arguments import class_indices, pick_task, sizes_of
from drifa_keras.explain._graph import lay_open, reached_from
from drifa_keras.explain._heads import logits_of
from drifa_keras.explain._maps import feature_maps, finest_deep_map
from drifa_keras.gradients import (
    in_batches,
    named_arrays,
    value_and_grad,
    with_named_inputs,
)

_METHODS = ("grad_cam", "grad_cam++")


def grad_cam(
    model: keras.Model,
    x,
    task: str | None = None,
    class_index=None,
    layer: str | dict[str, str] | None = None,
    method: str = "grad_cam",
    inputs: list[str] | None = None,
    batch_size: int = 32,
) -> dict[str, np.ndarray]:
    """Maps of where the evidence for a class lies, one for every input image.

    With `A` the feature map of a layer, `y` the logit of the class, and sums and means
    over the cells `ij` of the map:

    ```
    Grad-CAM     w_k = mean_ij dy/dA_ijk
    Grad-CAM++   w_k = sum_ij a_ijk relu(dy/dA_ijk),  a = g^2 / (2 g^2 + g^3 sum_ij A)
    map          relu(sum_k w_k A_k), enlarged to the image, scaled to 0..1
    ```

    with `g = dy/dA` (for `exp(y)`, as in the paper, `a` is the same and `w` larger by
    a factor that the scaling takes out). The scale is that of each map by itself: its
    least value is 0 and its largest 1, so that strengths cannot be compared between
    images; a map without any evidence is all zeros.

    Of a task that classifies every pixel, `y` is the sum of the logits of the class
    over the pixels that are predicted to be of it (Seg-Grad-CAM).

    Reference: Selvaraju et al., *Grad-CAM: Visual Explanations from Deep Networks via
    Gradient-based Localization*, ICCV 2017; Chattopadhay et al., *Grad-CAM++*, WACV
    2018; Vinogradova et al., *Towards Interpretable Semantic Segmentation via
    Gradient-weighted Class Activation Mapping*, AAAI 2020.

    **Which layer.** Unless told otherwise, each input gets the coarsest map with at
    least 7 cells along its shorter side (or the finest that there is), and of several
    the last, among those that

    1. belong to the stream of that input, before it is joined with others into one
       map (a layer that turns m maps into m maps, such as `MIFA`, keeps streams apart);
    2. the task cannot bypass: the end of a residual block, not its inside. Where every
       pixel is classified, there is none but the first, and any will do.

    Where inputs are joined before anything is learned, they share one map. The last
    map of a ResNet-18 at 128 px has 4x4 cells, each as large as what it should point
    at; one stage earlier it has 8x8. The further a layer is from the end, on the other
    hand, the less one weight for all of a channel says about it, which Grad-CAM++
    suffers from less. But its weights are never negative, so that it points at what is
    bright even under random weights. `benchmarks/grad_cam_phantoms.py` measures both.

    Args:
        model: A Functional model (or built Sequential) with any number of inputs and
            outputs, channels last; models may be nested in it. Inputs that are no
            images get no map.
        x: Images: a dict keyed by the names of the inputs, a list in their order, or
            one array for one input.
        task: Which output to explain, by its key in the dict of outputs, else by its
            name. May be left out where there is one.
        class_index: The class, as an integer or one integer a sample. By default the
            predicted one; of pixels the one that most are predicted to be of, class 0
            (the background) only where there is no other.
        layer: Name of the layer whose map is used, for all inputs or as a dict of
            input to name. Layers inside nested models are named by their path,
            `"backbone/conv4"`, or its end if there is only one such.
        method: `"grad_cam"` or `"grad_cam++"`.
        inputs: Names of the inputs to explain; all images by default. The maps of
            images that the task does not look at, as in a network of one modality a
            task, are zeros then.
        batch_size: Samples at a time.

    Returns:
        Dict of input name to a float32 array `(n, height, width)` in 0..1, at the size
        of the images. Gradients are those of the logits, where the outputs are a
        softmax or sigmoid of them.

    Raises:
        ValueError: If the images do not fit the model; if `task`, `class_index`,
            `method` or `inputs` is none that the model has; if the layer does not
            exist or has no map of that input (the message lists those that do); if no
            path leads to the task from an input that is named, or from any.

    Example:
    ```python
    maps = dk.explain.grad_cam(model, {"dermoscopy": x, "ct": z}, task="skin_lesion")
    maps["dermoscopy"]  # (n, 128, 128)
    ```
    """
    if method not in _METHODS:
        raise ValueError(
            f"`method` must be one of {list(_METHODS)}. Received: method={method!r}."
        )
    view = with_named_inputs(model)
    images = named_arrays(model, x)
    task, output = pick_task(view, task, maps=True)
    count = len(next(iter(images.values())))
    wanted = class_indices(class_index, count, output.shape[-1], task)
    plan = _plan(model, view, task, layer, inputs, sizes_of(images))

    def maps_of_batch(images, wanted):
        zeros = {
            tap: np.zeros((len(wanted), *shape), "float32")
            for tap, shape in plan.taps.items()
        }
        _, gradients, outputs = plan.gradient_of({**images, **zeros}, wanted)
        maps = {
            name: _enlarged(
                _evidence(outputs["maps"][tap], gradients[tap], method),
                images[name].shape[1:3],
            )
            for name, tap in plan.tap_of.items()
        }
        silent = {
            name: np.zeros(images[name].shape[:3], "float32") for name in plan.silent
        }
        return maps | silent

    return in_batches(maps_of_batch, images, wanted, batch_size=batch_size)


@dataclass(frozen=True)
class _Plan:
    """What is built and compiled once for a model, a task and a choice of layers.

    Attributes:
        gradient_of: As `value_and_grad` makes it, for the taps. A tap is an input of
            zeros that is added to a feature map, and has its gradient.
        taps: Name of each tap to its shape (height, width, channels).
        tap_of: Name of each input to that of the tap on its map.
        silent: Names of the images that the task does not look at.
    """

    gradient_of: Callable
    taps: dict[str, tuple[int, int, int]]
    tap_of: dict[str, str]
    silent: list[str]


_PLANS = weakref.WeakKeyDictionary()


def _plan(model, view, task, layer, inputs, sizes):
    layers = tuple(sorted(layer.items())) if isinstance(layer, dict) else layer
    names = None if inputs is None else tuple(inputs)
    key = task, layers, names, tuple(sizes.items())
    plans = _PLANS.setdefault(model, {})
    if key not in plans:
        plans[key] = _make_plan(view, task, layer, inputs, sizes)
    return plans[key]


def _make_plan(view, task, layer, inputs, sizes):
    _, output = pick_task(view, task, maps=True)
    new_inputs, (new_output,) = lay_open(view, [output], sizes)
    graph = keras.Model(new_inputs, new_output)
    chosen = _choose(graph, task, layer, inputs, sizes)

    taps, maps = {}, {}

    def tap(call, args, kwargs, outputs):
        outputs = tree.flatten(outputs)
        for feature_map in chosen.values():
            name = _tap_name(feature_map)
            if feature_map.call == call.name and name not in taps:
                x = outputs[feature_map.index]
                taps[name] = keras.Input(feature_map.shape, name=name)
                maps[name] = keras.layers.Add(dtype=x.dtype)([x, taps[name]])
                outputs[feature_map.index] = maps[name]
        return outputs

    new_inputs, (new_output,) = lay_open(view, [output], sizes, tap)
    graph = keras.Model({**new_inputs, **taps}, new_output)
    outputs = {"logits": logits_of(graph, new_output), "maps": maps}
    tapped = keras.Model({**new_inputs, **taps}, outputs)
    return _Plan(
        value_and_grad(_score, tapped, wrt=list(taps)),
        {name: tuple(x.shape[1:]) for name, x in taps.items()},
        {name: _tap_name(feature_map) for name, feature_map in chosen.items()},
        [
            name
            for name, size in sizes.items()
            if inputs is None and len(size) == 3 and name not in chosen
        ],
    )


def _tap_name(feature_map):
    return f"{feature_map.call}.{feature_map.index}.tap"


def _score(outputs, wanted):
    """The logit of the wanted class, of the predicted one where it is -1."""
    logits = outputs["logits"]
    classes = logits.shape[-1]
    predicted = ops.one_hot(ops.argmax(logits, axis=-1), classes)
    if len(logits.shape) == 2:
        wanted = ops.where(wanted < 0, ops.argmax(logits, axis=-1), wanted)
        return ops.sum(logits * ops.one_hot(wanted, classes), axis=-1)
    areas = ops.sum(predicted, axis=(1, 2))  # (batch, classes)
    # With half a pixel the background comes first only where there is nothing else.
    sizes = ops.concatenate([ops.minimum(areas[:, :1], 0.5), areas[:, 1:]], axis=-1)
    largest = ops.argmax(sizes, axis=-1)
    wanted = ops.one_hot(ops.where(wanted < 0, largest, wanted), classes)
    return ops.sum(logits * predicted * wanted[:, None, None], axis=(1, 2, 3))


def _choose(graph, task, layer, inputs, sizes):
    """Picks the feature map of each input: a dict of input name to `FeatureMap`."""
    images = [name for name, size in sizes.items() if len(size) == 3]
    names = images if inputs is None else list(inputs)
    given = layer if isinstance(layer, dict) else dict.fromkeys(names, layer)
    for argument, received in (("inputs", names), ("layer", given)):
        odd = [name for name in received if name not in images]
        if odd or not names:
            raise ValueError(
                f"`{argument}` names the input {odd[0] if odd else None!r}. Inputs of "
                f"images (batch, height, width, channels) are {images}."
            )
    (output,) = graph.outputs
    linked = [n for n in images if id(output) in reached_from(graph, n)]
    found = {n: feature_maps(graph, output, n) for n in names if n in linked}
    if inputs is None and any(found.values()):
        names = [name for name in names if found.get(name)]
    chosen = {}
    for name in names:
        if name not in linked:
            raise ValueError(
                f"No path leads from input {name!r} to task {task!r}, so that nothing "
                f"in that image can explain it. Pass inputs={linked}."
            )
        maps = found[name]
        if not maps:
            raise ValueError(
                f"No layer between input {name!r} and task {task!r} has a feature map "
                "(batch, height, width, channels) of several cells."
            )
        wanted = given.get(name)
        chosen[name] = finest_deep_map(maps)
        if wanted is not None:
            chosen[name] = _named(maps, wanted, name)
    return chosen


def _named(maps, layer, name):
    found = [m for m in maps if m.place == layer]
    found = found or [m for m in maps if m.place.endswith(f"/{layer}")]
    if len({m.place for m in found}) != 1:
        state = "has several maps" if found else "has no feature map"
        listed = {m.place: m.shape[:2] for m in found or maps}
        listed = ", ".join(f"{place} {h}x{w}" for place, (h, w) in listed.items())
        raise ValueError(
            f"`layer` {layer!r} {state} of input {name!r}. Choose one of: {listed}. "
            "Different layers for different inputs are a dict {input: layer}; `inputs` "
            "leaves inputs out."
        )
    return found[-1]


def _evidence(maps, gradients, method):
    """The weighted sum of the channels, `(batch, h, w)`, without what is negative."""
    maps, gradients = ops.cast(maps, "float32"), ops.cast(gradients, "float32")
    if method == "grad_cam":
        weights = ops.mean(gradients, axis=(1, 2), keepdims=True)
    else:
        # g^2 / (2 g^2 + g^3 S), without the powers that underflow
        parts = 2 + gradients * ops.sum(maps, axis=(1, 2), keepdims=True)
        parts = ops.relu(gradients) / ops.where(parts == 0, 1.0, parts)
        weights = ops.sum(parts, axis=(1, 2), keepdims=True)
    return ops.relu(ops.sum(weights * maps, axis=-1))


def _enlarged(evidence, size):
    """Maps of an image's size, each scaled to 0..1."""
    evidence = ops.image.resize(
        evidence[..., None], size, "bilinear", data_format="channels_last"
    )[..., 0]
    evidence -= ops.min(evidence, axis=(1, 2), keepdims=True)
    highest = ops.max(evidence, axis=(1, 2), keepdims=True)
    return evidence / ops.where(highest > 0, highest, 1.0)
