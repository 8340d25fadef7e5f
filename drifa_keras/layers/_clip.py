"""Clipping, with a gradient that an attacker can follow."""

import contextlib
import contextvars

from keras import ops

_STRAIGHT_THROUGH = contextvars.ContextVar("straight_through", default=False)


@contextlib.contextmanager
def straight_through_clips():
    """Lets gradients pass the clips of the layers here as if they were not there.

    A clip has no gradient where it cuts, which hides the way from an attacker who
    follows gradients. Values stay as they are. It counts while a function is traced:
    what was compiled outside the context keeps its gradients.

    Reference: Athalye et al., *Obfuscated Gradients Give a False Sense of Security*,
    ICML 2018 (backward pass differentiable approximation).
    """
    token = _STRAIGHT_THROUGH.set(True)
    try:
        yield
    finally:
        _STRAIGHT_THROUGH.reset(token)


def clip(x, low, high):
    """`keras.ops.clip`, straight-through inside `straight_through_clips`."""
    clipped = ops.clip(x, low, high)
    if _STRAIGHT_THROUGH.get():
        return x + ops.stop_gradient(clipped - x)
    return clipped
