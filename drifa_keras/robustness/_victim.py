"""The classifier under attack: its losses, gradients and answers."""

from __future__ import annotations

import contextlib
import copy
import math
import weakref

import keras
import numpy as np
from keras import ops

from drifa_keras.gradients import (
    outputs_by_task,
    stateless,
    value_and_grad,
    with_named_inputs,
)
from drifa_keras.layers import draw, seed_states, straight_through_clips
from drifa_keras.models import MultimodalModel

_VICTIMS = weakref.WeakKeyDictionary()


def victim_of(model: keras.Model, straight_through: bool = False) -> Victim:
    """The `Victim` of a model; what was compiled for it serves again."""
    known = _VICTIMS.setdefault(model, {})
    if straight_through not in known:
        known[straight_through] = Victim(model, straight_through)
    return known[straight_through]


class Victim:
    """A classifier as an attacker sees it who knows all but what will be drawn.

    Args:
        model: A `MultimodalModel`, whose logits are taken, or a Functional model or
            Sequential that returns logits `(batch, classes)`, of one or several tasks.
        straight_through: Whether gradients pass the clips of random layers.

    Attributes:
        model: The model that returns logits.
        tasks: Task name to its number of classes.
    """

    def __init__(self, model, straight_through=False):
        if isinstance(model, MultimodalModel):
            model = model.logits_model
        model = with_named_inputs(model)
        outputs = outputs_by_task(model)
        for task, output in outputs.items():
            if len(output.shape) != 2 or (output.shape[-1] or 0) < 2:
                raise ValueError(
                    f"Output {task!r} must be logits (batch, classes) of at least two "
                    f"classes. It has the shape {tuple(output.shape)}."
                )
        self.model = keras.Model(model.inputs, outputs)
        self.tasks = {task: output.shape[-1] for task, output in outputs.items()}
        self._states = seed_states(self.model)
        self._frozen = None
        self._clips = (
            straight_through_clips if straight_through else contextlib.nullcontext
        )
        self._call = stateless(self.model)
        self._gradient_of = {
            name: value_and_grad(_summed(*loss), self.model)
            for name, loss in _LOSSES.items()
        }

    def frozen(self, seed: int) -> Victim:
        """The same classifier, held to one draw."""
        held = copy.copy(self)
        held._frozen = seed
        return held

    def require_logits(self, x) -> None:
        """Raises a `ValueError` if the outputs for some images are probabilities."""
        for task, values in self._call(x).items():
            values = ops.convert_to_numpy(values)
            sums = values.sum(axis=-1, dtype="float64")
            if values.min() >= 0 and np.abs(sums - 1).max() < 1e-2:
                raise ValueError(
                    f"Output {task!r} holds probabilities: no value is negative, and "
                    "every row sums to 1. Their gradients vanish where the classifier "
                    "is sure, which hides how easily it is fooled. Pass a model of the "
                    "logits: `keras.Model(model.inputs, <what the softmax reads>)`."
                )

    def is_random(self, x) -> bool:
        """Whether two draws answer differently."""
        if not self._states:
            return False
        first, second = (self.probabilities(x, seed) for seed in (1, 2))
        return any((first[task] != second[task]).any() for task in first)

    def probabilities(
        self, x, seed: int, together: bool = False
    ) -> dict[str, np.ndarray]:
        """Probabilities of a batch in one draw, `(batch, classes)` for each task.

        Args:
            x: Input name to images.
            seed: Picks the draw.
            together: Whether all images of the batch meet the same noise, which is
                faster to draw, rather than each its own.
        """
        with self._drawn(seed, together):
            logits = self._call(x)
        return {task: softmax(z) for task, z in logits.items()}

    def gradient(self, x, y, seed: int, loss: str):
        """Loss and gradient of a batch in one draw, the same for all images.

        Args:
            x: Input name to images.
            y: Task name to labels, -1 where a task is not attacked.
            seed: Picks the draw.
            loss: `"ce"`, cross-entropy, or `"dlr"`, the difference of logits ratio;
                both are summed over the tasks, of which one that is lost rests while
                another is not.

        Returns:
            Tuple of the losses `(batch,)`, gradients by the name of the input, and
            probabilities by task.
        """
        with self._drawn(seed, together=True), self._clips():
            losses, gradients, logits = self._gradient_of[loss](x, y)
        return losses, gradients, {task: softmax(z) for task, z in logits.items()}

    def _drawn(self, seed, together=False):
        if not self._states:
            return contextlib.nullcontext()
        if self._frozen is not None:
            seed, together = self._frozen, True
        values = draw(self._states, seed, held=together)
        return keras.StatelessScope(state_mapping=values)


def softmax(logits) -> np.ndarray:
    """Softmax over the last axis, float64."""
    z = np.asarray(ops.convert_to_numpy(logits), "float64")
    z = np.exp(z - z.max(axis=-1, keepdims=True))
    return z / z.sum(axis=-1, keepdims=True)


def _summed(loss, lost):
    """The sum over the tasks of the loss of the samples that have a label.

    A task whose loss is above `lost` counts as that much while another is below: its
    answer is wrong already, and it would draw the gradient away from the others.
    """

    def of_tasks(logits, labels):
        values, limits, open_tasks = [], [], 0
        for task, z in logits.items():
            z, label = ops.cast(z, "float32"), labels[task]
            value = loss(z, ops.one_hot(ops.maximum(label, 0), z.shape[-1]))
            values.append(ops.where(label >= 0, value, ops.zeros_like(value)))
            limits.append(lost(z.shape[-1]))
            below = (label >= 0) & (value < limits[-1])
            open_tasks = open_tasks + ops.cast(below, "int32")
        total = 0.0
        for value, limit in zip(values, limits, strict=True):
            rests = (open_tasks > 0) & (value > limit)
            total = total + ops.where(rests, ops.full_like(value, limit), value)
        return total

    return of_tasks


def _cross_entropy(z, one_hot):
    return ops.logsumexp(z, axis=-1) - ops.sum(z * one_hot, axis=-1)


def _logits_ratio(z, one_hot):
    """Difference of logits ratio: Croce and Hein, ICML 2020, Eq. 6."""
    # Of two classes it is a number that nothing is made of: see `require`.
    highest = ops.top_k(z, min(3, z.shape[-1]))[0]
    own = ops.sum(z * one_hot, axis=-1)
    other = ops.where(own == highest[:, 0], highest[:, 1], highest[:, 0])
    return (other - own) / (highest[:, 0] - highest[:, -1] + 1e-12)


# Each with the value above which the answer is wrong beyond doubt, by the number of
# classes: with the cross-entropy, e times less likely than by chance; with the ratio,
# behind two other classes.
_LOSSES = {
    "ce": (_cross_entropy, lambda classes: math.log(classes) + 1),
    "dlr": (_logits_ratio, lambda classes: 1.0),
}
