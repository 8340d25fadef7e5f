"""The gates that the attention layers of DRIFA-Net applied to an image."""

from __future__ import annotations

import keras
import numpy as np
from keras import tree

from drifa_keras.explain._arguments import sizes_of
from drifa_keras.explain._graph import lay_open, streams
from drifa_keras.gradients import named_arrays, with_named_inputs
from drifa_keras.layers import MFA, MIFA, RRABlock


def attention_maps(
    model: keras.Model, x, batch_size: int = 32
) -> dict[str, dict[str, np.ndarray]]:
    """The gates by which `MFA` and `MIFA` multiplied the feature maps of images.

    That is `a * omega_c` of Eq. 4 for `MFA`, and for `MIFA` `A * omega_c,i` of Eq. 8,
    zero where modality i is absent, in Dhar et al., *Multimodal Fusion Learning with
    Dual Attention for Medical Imaging*, WACV 2025: the output of the layer divided by
    its input. Layers inside `RRABlock`s and nested models are found too.

    Args:
        model: A Functional model (or built Sequential).
        x: Images: a dict keyed by the names of the inputs, a list in their order, or
            one array for one input.
        batch_size: Samples at a time.

    Returns:
        Dict of layer to a dict of input name to the float32 gates of that input's
        stream, `(n, height or 1, width or 1, channels)`. Layers are named by their
        path, such as `"ct_stage0_block0/mfa1"`, a further call of a layer as
        `"encoder/mfa.2"`. Where the streams of several inputs have become one, their
        names are joined by `"+"`.

    Raises:
        ValueError: If the images do not fit the model, or it has no such layer.
    """
    view = with_named_inputs(model)
    images = named_arrays(model, x)
    found = {}

    def visit(call, args, kwargs, outputs):
        if isinstance(call.operation, (MFA, MIFA)):
            gates = AppliedGates(call.operation)(*args, **kwargs)
            found[call.name] = call.place, tree.flatten(gates), tree.flatten(outputs)
        return outputs

    inputs, outputs = lay_open(
        view, view.outputs, sizes_of(images), visit, composites=(RRABlock,)
    )
    if not found:
        raise ValueError(
            f"{model.name} has no MFA or MIFA layer whose gates could be shown."
        )
    stream = streams(keras.Model(inputs, outputs))
    gates, every = {}, "+".join(images)
    for name, (place, tensors, results) in found.items():
        number = name.removeprefix(place.replace("/", "."))
        for tensor, result in zip(tensors, results, strict=True):
            owner = stream.get(id(result)) or every
            gates.setdefault(place + number, {})[owner] = tensor
    shown = keras.Model(inputs, gates)
    arrays = shown.predict(images, batch_size=batch_size, verbose=0)
    # In the order of the layers, which `predict` does not keep.
    return {
        layer: {owner: arrays[layer][owner].astype("float32") for owner in by_owner}
        for layer, by_owner in gates.items()
    }


class AppliedGates(keras.layers.Layer):
    """The gates that an attention layer applies, as a layer."""

    def __init__(self, attention):
        super().__init__(dtype=attention.dtype_policy)
        self.attention = attention
        self.built = True

    def call(self, *args, **kwargs):
        return self.attention.applied_gates(*args, **kwargs)
