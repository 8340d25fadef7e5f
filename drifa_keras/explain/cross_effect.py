"""How much each modality's image moves the answer to a task."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np

from drifa_keras.explain._arguments import class_indices, pick_task
from drifa_keras.gradients import named_arrays, with_named_inputs


@dataclass(frozen=True, eq=False)
class Effect:
    """What one input's image does to the answer to a task.

    Attributes:
        blank: `(n,)` how much the probability of the class falls when the image is
            blank; negative where it rises. Without the image, a model of this package
            counts the modality as absent.
        shuffled: `(n,)` by how much the probability of the class changes, up or down,
            when the image is that of another sample; mean over the draws.
        flipped: `(n,)` share of those draws in which another class becomes the most
            probable.
    """

    blank: np.ndarray
    shuffled: np.ndarray
    flipped: np.ndarray


def cross_effect(
    model: keras.Model,
    x,
    task: str | None = None,
    class_index=None,
    draws: int = 5,
    seed: int = 0,
    batch_size: int = 32,
) -> dict[str, Effect]:
    """Measures how much each input, its own and its partners', moves a task's answer.

    Every other input stays as it is while one is blanked, or exchanged for that of
    another sample. Where partners are unrelated, as for data sets that were paired at
    random, an answer that a partner moves is moved by something that has nothing to do
    with it; where modalities show one patient, this is how much each contributes.

    Args:
        model: A Functional model (or built Sequential) whose outputs are
            probabilities.
        x: At least two samples: a dict keyed by the names of the inputs, a list in
            their order, or one array for one input.
        task: Which output, by its key in the dict of outputs, else by its name. May
            be left out where there is one.
        class_index: The class whose probability is followed, as an integer or one
            integer a sample; the predicted one by default.
        draws: How often images are exchanged, at least once.
        seed: Seed of the exchanges.
        batch_size: Samples at a time.

    Returns:
        Dict of input name to its `Effect`.

    Raises:
        ValueError: If the images do not fit the model, there is only one sample, or
            `task`, `class_index` or `draws` is not usable.
    """
    view = with_named_inputs(model)
    images = named_arrays(model, x)
    task, output = pick_task(view, task)
    count = len(next(iter(images.values())))
    if count < 2 or not isinstance(draws, int) or draws < 1:
        raise ValueError(
            "At least two samples, whose images can be exchanged, and one draw are "
            f"needed. Received: {count} samples, draws={draws!r}."
        )
    answers = keras.Model(view.input, output)

    def predict(**changed):
        return answers.predict({**images, **changed}, batch_size=batch_size, verbose=0)

    rows = np.arange(count)
    before = predict()
    predicted = before.argmax(axis=1)
    wanted = class_indices(class_index, count, before.shape[1], task)
    wanted = np.where(wanted < 0, predicted, wanted)
    before = before[rows, wanted]
    generator = np.random.default_rng(seed)
    partners = [_exchange(count, generator) for _ in range(draws)]
    effects = {}
    for name, array in images.items():
        blank = predict(**{name: np.zeros_like(array)})[rows, wanted]
        shuffled = np.stack([predict(**{name: array[p]}) for p in partners])
        effects[name] = Effect(
            blank=before - blank,
            shuffled=np.abs(shuffled[:, rows, wanted] - before).mean(axis=0),
            flipped=(shuffled.argmax(axis=2) != predicted).mean(axis=0),
        )
    return effects


def _exchange(count, generator):
    """Gives every sample another one, each once."""
    ring = generator.permutation(count)
    partner = np.empty(count, int)
    partner[ring] = np.roll(ring, 1)
    return partner
