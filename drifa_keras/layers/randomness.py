"""Random draws of layers, and a context that holds them still."""

import contextlib
import re

import keras
import numpy as np
from keras import ops

# A counter from here on stands still. It fits the seed dtype of every backend.
_HELD = 2**30


class DrawGenerator(keras.random.SeedGenerator):
    """A seed generator that `freeze_randomness` can hold still.

    Its state is a seed and a counter, which goes up with every draw. A counter of
    2**30 or more stays as it is, so that every draw is the same one. That is a matter
    of the state alone: functions that were compiled before obey it as well.
    """

    def next(self, ordered=True):
        state = ops.convert_to_tensor(self.state)
        step = ops.cast(state[1] < _HELD, state.dtype)
        self.state.assign(ops.stack([state[0], state[1] + step]))
        return state

    def is_held(self):
        """Boolean tensor `()`: whether `freeze_randomness` is in force."""
        return ops.convert_to_tensor(self.state)[1] >= _HELD


class DrawnSeed(keras.random.SeedGenerator):
    """The next seed of a generator, for several random functions or none.

    The branches of `keras.ops.cond` must not advance a generator; they may share what
    was drawn before.
    """

    def __init__(self, generator):
        self._seed = generator.next()

    def next(self, ordered=True):
        return self._seed


def seed_states(model, kinds=("draw_generator", "seed_generator")):
    """The variables that the random draws of a built model follow from.

    Args:
        model: A `keras.Model` or `keras.layers.Layer` that is built.
        kinds: Names of generators: those that `freeze_randomness` holds, and the
            others of Keras, as in dropout.

    Returns:
        List of variables of a seed and a counter, `(2,)`.
    """
    # Keras numbers the generators of a program: "draw_generator_3".
    known = re.compile(rf"(^|/)({'|'.join(kinds)})(_\d+)?/")
    return [v for v in model.non_trainable_variables if known.search(v.path)]


def draw(states, seed, held=False):
    """Values of the variables of a model's random draws that pick one draw.

    Args:
        states: As `seed_states` returns them.
        seed: Integer that picks the draw.
        held: Whether random layers of this package keep to one draw, as inside
            `freeze_randomness`.

    Returns:
        List of pairs of a variable and its value. With `keras.StatelessScope` they
        hold for a call, and nothing is assigned.
    """
    seeds = np.random.default_rng(seed).integers(2**31, size=len(states))
    counter = _HELD if held else 0
    return [
        (state, np.array([own_seed, counter], dtype=state.dtype))
        for state, own_seed in zip(states, seeds, strict=True)
    ]


@contextlib.contextmanager
def freeze_randomness(model, seed=0):
    """Holds the random layers of a model to one draw.

    Inside the context every call of `model`, and of any model that shares its layers,
    draws the same random kernels and the same noise, with one noise for all samples
    of a batch: `predict`, `evaluate`, `fit` and `model(x)` see one fixed network.
    Afterwards the layers go on drawing where they had stopped.

    Nothing is compiled anew: the context sets the states of the layers' seed
    generators, which compiled functions read in every call. A JAX function of your
    own has to be handed `model.non_trainable_variables`, as `stateless_call` does;
    values that it closed over stay what they were.

    Held are `RandomProjectionConv2D`, `RandomProjectionDepthwiseConv2D` and
    `AttentionNoise`, wherever in the model. Dropout is off at inference, and goes on
    drawing where it is on.

    Args:
        model: A `keras.Model` or `keras.layers.Layer` that is built.
        seed: Integer that picks the draw. Equal seeds give equal draws in models of
            one architecture on one backend.

    Yields:
        `model`.

    Example:
    ```python
    with drifa_keras.layers.freeze_randomness(model, seed=1):
        first = model.predict(images)
        second = model.predict(images)  # the same numbers
    ```
    """
    states = seed_states(model, ["draw_generator"])
    before = [ops.convert_to_numpy(state) for state in states]
    for state, value in draw(states, seed, held=True):
        state.assign(value)
    try:
        yield model
    finally:
        for state, value in zip(states, before, strict=True):
            state.assign(value)
