"""Adversarial training: what `fit` sees is the worst that PGD finds."""

from __future__ import annotations

import contextlib

import keras
import numpy as np
from keras import ops

from drifa_keras.gradients import value_and_grad
from drifa_keras.layers import seed_states


@contextlib.contextmanager
def adversarial_training(
    model,
    eps: float,
    steps: int = 10,
    step_size: float | None = None,
    bounds: tuple[float, float] = (0.0, 255.0),
    seed: int = 0,
):
    """Makes `fit` train on adversarial images, for as long as the context lasts.

    Each training step replaces its images by what projected gradient descent finds
    within `eps` of them in the maximum norm, on all modalities jointly, with a random
    start and the present weights, and learns from those alone. The loss that is
    climbed is the sum of the tasks' cross-entropies, times the weights of the samples.
    Batch normalisation takes the statistics of the batch and keeps its own untouched;
    random layers draw anew in every step. Blank images stay blank. Validation sees
    clean images.

    Reference: Madry et al., *Towards Deep Learning Models Resistant to Adversarial
    Attacks*, ICLR 2018; with one step, Wong et al., *Fast is Better than Free*,
    ICLR 2020.

    Args:
        model: A compiled `MultimodalModel` whose targets are one-hot.
        eps: Largest change of a pixel as a share of `bounds`, from 0 to 1: 4/255 is
            four grey levels.
        steps: Steps of the attack. A training step takes about `steps` times the time
            of a plain one longer.
        step_size: Step of the attack, in units of `eps`; the smaller of 1.25 and
            2.5 / steps by default.
        bounds: Lowest and highest value of a pixel.
        seed: Seed of the random starts. Together with the number of the training
            step it settles them, so that a resumed run sees the same.

    Yields:
        `model`.

    Raises:
        ValueError: If a number is out of range.

    Example:
    ```python
    with adversarial_training(model, eps=4 / 255, steps=3):
        model.fit(batches, epochs=20)
    ```
    """
    attack = _Attack(model, eps, steps, step_size, bounds, seed)
    plain = model.train_step
    if keras.backend.backend() == "jax":

        def train_step(state, data):
            # The variables hold no values while JAX trains; the state does.
            variables = (
                model.trainable_variables,
                model.non_trainable_variables,
                model.optimizer.variables,
            )
            values = [
                pair
                for of_variables, of_state in zip(variables, state, strict=False)
                for pair in zip(of_variables, of_state, strict=True)
            ]
            return plain(state, attack(data, values))

    else:

        def train_step(data):
            return plain(attack(data, []))

    model.train_step = train_step
    model.train_function = None  # compiled from the step that was
    try:
        yield model
    finally:
        del model.train_step
        model.train_function = None


class _Attack:
    """Replaces the images of a batch.

    Args:
        model, eps, steps, step_size, bounds, seed: As for `adversarial_training`.
    """

    def __init__(self, model, eps, steps, step_size, bounds, seed):
        if not 0 < eps <= 1:
            raise ValueError(
                "`eps` is a share of the range of pixels, above 0 and at most 1; four "
                f"grey levels are 4/255. Received: eps={eps!r}."
            )
        if not isinstance(steps, int) or steps < 1:
            raise ValueError(
                f"`steps` must be an integer of at least 1. Received: {steps!r}."
            )
        if step_size is None:
            step_size = min(1.25, 2.5 / steps)
        if not step_size > 0:
            raise ValueError(f"`step_size` must be above 0. Received: {step_size!r}.")
        self.low, self.high = bounds
        self.eps = eps * (self.high - self.low)
        self.step_size = step_size * self.eps
        self.steps = steps
        self.model = model
        names = list(model.modalities)
        self.states = seed_states(model)
        seeds = np.random.SeedSequence(seed).generate_state(
            len(names) + len(self.states)
        )
        seeds = (seeds % 2**31).tolist()
        self.starts = {name: _SeedOfStep(model, seeds.pop()) for name in names}
        self.seeds = seeds
        self.gradient_of = value_and_grad(_loss, model.logits_model, training=True)

    def __call__(self, data, values):
        """Returns the batch, with the values of variables that are in force."""
        images, targets, weights = keras.utils.unpack_x_y_sample_weight(data)
        clean = {name: ops.cast(image, "float32") for name, image in images.items()}
        if weights is None:
            weights = {task: ops.ones_like(y[:, 0]) for task, y in targets.items()}
        with keras.StatelessScope(state_mapping=values):
            iteration = ops.convert_to_tensor(self.model.optimizer.iterations)
            moved = {
                name: image
                + keras.random.uniform(
                    ops.shape(image), -self.eps, self.eps, seed=self.starts[name]
                )
                for name, image in clean.items()
            }
        moved = self._project(moved, clean)
        for number in range(self.steps):
            count = iteration * self.steps + number
            draws = [
                (state, _state(state, seed, count))
                for state, seed in zip(self.states, self.seeds, strict=True)
            ]
            with keras.StatelessScope(state_mapping=[*values, *draws]):
                _, gradients, _ = self.gradient_of(moved, targets, weights)
            moved = {
                name: image + self.step_size * ops.sign(gradients[name])
                for name, image in moved.items()
            }
            moved = self._project(moved, clean)
        moved = {name: ops.stop_gradient(image) for name, image in moved.items()}
        return keras.utils.pack_x_y_sample_weight(moved, targets, weights)

    def _project(self, moved, clean):
        """Brings images back within `eps` of the clean ones and within the bounds."""
        projected = {}
        for name, image in clean.items():
            near = ops.clip(moved[name], image - self.eps, image + self.eps)
            near = ops.clip(near, self.low, self.high)
            there = ops.any(image != 0, axis=(1, 2, 3), keepdims=True)
            projected[name] = ops.where(there, near, image)
        return projected


class _SeedOfStep(keras.random.SeedGenerator):
    """A seed that follows from a number and the training step alone."""

    def __init__(self, model, seed):
        super().__init__(seed)
        self._number = seed
        self._model = model

    def next(self, ordered=True):
        return _state(self.state, self._number, self._model.optimizer.iterations)


def _state(variable, seed, count):
    return ops.stack([ops.cast(x, variable.dtype) for x in (seed, count)])


def _loss(logits, targets, weights):
    """Cross-entropy of the tasks, `(batch,)`."""
    return sum(
        ops.cast(weights[task], "float32")
        * keras.losses.categorical_crossentropy(
            targets[task], ops.cast(logits[task], "float32"), from_logits=True
        )
        for task in logits
    )
