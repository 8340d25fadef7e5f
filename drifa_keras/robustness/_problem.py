"""What one call of an attack is about: images, labels, and what may change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from keras import ops, tree

from drifa_keras.gradients import in_batches, named_arrays
from drifa_keras.robustness._checks import (
    check_bounds,
    check_count,
    check_eps,
    check_labels,
    check_names,
    check_pixels,
)
from drifa_keras.robustness._victim import Victim

# So many draws stand for a random classifier, where their mean is clear.
_MANY_DRAWS = 5


@dataclass(frozen=True, eq=False)
class Assessment:
    """What the classifier makes of images.

    Attributes:
        loss: Sum of the losses of the tasks, `(n,)`.
        wrong: Share of the tasks that are answered wrongly, `(n,)`; one without a
            label counts as wrong.
        lost: Whether all tasks are wrong beyond doubt, `(n,)`: some other class is e
            times likelier than the true one.
        gradient: Gradient of the loss, `(n, numbers)`, where the loss has one.
    """

    loss: np.ndarray
    wrong: np.ndarray
    lost: np.ndarray
    gradient: np.ndarray | None = None


class Problem:
    """Images as vectors of the pixels that may change, and the rules of the change.

    Args:
        victim: The classifier.
        x: Images, as `attack(model, x, ...)` takes them.
        y: Labels.
        eps: Largest change: as a share of `bounds` in the maximum norm; in the
            Euclidean norm of the whole change, with pixels scaled to 0..1.
        modalities: Names of the inputs that may change, all by default.
        tasks: Names of the tasks that are attacked, all by default.
        norm: `"linf"` or `"l2"`.
        draws: Draws behind every loss, gradient and answer of a random classifier.
        bounds: Lowest and highest value of a pixel.
        batch_size: Images at a time.
        seed: Seed of everything random.

    Attributes:
        clean: The images, `(n, numbers)`.
        eps: The largest change in the units of the pixels.
        slices: Name of each input that may change to its place in the vectors.
        shapes: Name of each such input to the shape of an image.
        labels: Task name to labels, -1 where it is not attacked.
        draws: Draws behind every loss, gradient and answer; 1 of a fixed classifier.
        is_random: Whether the answers of the classifier are random.
        rng: Source of all that is random in an attack.
    """

    def __init__(
        self,
        victim: Victim,
        x,
        y,
        eps,
        *,
        modalities=None,
        tasks=None,
        norm="linf",
        draws=1,
        bounds=(0.0, 255.0),
        batch_size=32,
        seed=0,
    ):
        self.low, self.high = check_bounds(bounds)
        self.eps = check_eps(eps, norm) * (self.high - self.low)
        self.norm = norm
        batch_size = check_count("batch_size", batch_size)
        self.victim = victim
        # Apart, so that what an attack draws does not depend on the batches.
        self.rng, self._seeds = np.random.default_rng(seed).spawn(2)
        draws = check_count("draws", draws)
        images = named_arrays(victim.model, x)
        check_pixels(images, (self.low, self.high))
        self._images = {name: a.astype("float32") for name, a in images.items()}
        aimed = check_names("tasks", tasks, victim.tasks)
        count = len(next(iter(images.values())))
        self.batch_size = min(batch_size, count)
        self.labels = {
            task: labels if task in aimed else np.full(count, -1)
            for task, labels in check_labels(y, victim.tasks, count).items()
        }
        self.slices, self.shapes, start = {}, {}, 0
        for name in check_names("modalities", modalities, images):
            self.shapes[name] = images[name].shape[1:]
            stop = start + int(np.prod(self.shapes[name]))
            self.slices[name] = slice(start, stop)
            start = stop
        self.clean = self._vectors(self._images)
        # An image of zeros is an absent one, and stays so.
        self._there = np.empty(self.clean.shape, bool)
        for part in self.slices.values():
            self._there[:, part] = self.clean[:, part].any(axis=1, keepdims=True)
        some = {name: a[: self.batch_size] for name, a in self._images.items()}
        victim.require_logits(some)
        self.is_random = victim.is_random(some)
        self.draws = draws if self.is_random else 1

    def __len__(self):
        return len(self.clean)

    def images(self, vectors, rows=None) -> dict[str, np.ndarray]:
        """All inputs of the classifier, with what may change taken from vectors."""
        rows = np.arange(len(self)) if rows is None else rows
        return {
            name: vectors[:, self.slices[name]].reshape(-1, *image.shape[1:])
            if name in self.slices
            else image[rows]
            for name, image in self._images.items()
        }

    def require_three_classes(self) -> None:
        """Raises a `ValueError` if a task under attack has two classes."""
        for task, classes in self.victim.tasks.items():
            if classes < 3 and (self.labels[task] >= 0).any():
                raise ValueError(
                    'The loss "dlr", the difference of logits ratio, needs at least '
                    f"three classes. Task {task!r} has {classes}. Use the loss "
                    '"ce", or leave the task out by `tasks`.'
                )

    def assess(self, vectors, rows, loss="ce") -> Assessment:
        """Asks the classifier about changed images, means over the draws.

        Args:
            vectors: The changed images, `(len(rows), numbers)`.
            rows: Which images they are.
            loss: `"ce"` or `"dlr"`, with a gradient, or `"margin"`, without: how much
                likelier another class is than the true one, as a logarithm.
        """
        labels = {task: labels[rows] for task, labels in self.labels.items()}

        def of_draw(images, labels):
            seed = self._new_seed()
            if loss == "margin":
                return (), (), self.victim.probabilities(images, seed, together=True)
            return self.victim.gradient(images, labels, seed, loss)

        def of_batch(*batch):
            drawn = [
                tree.map_structure(_numpy, of_draw(*batch)) for _ in range(self.draws)
            ]
            return tree.map_structure(lambda *parts: np.mean(parts, axis=0), *drawn)

        losses, gradients, probabilities = in_batches(
            of_batch,
            self.images(vectors, rows),
            labels,
            batch_size=self.batch_size,
            ever_other=True,
        )
        margins = {task: margin(probabilities[task], labels[task]) for task in labels}
        wrong = np.mean([m >= 0 for m in margins.values()], axis=0)
        lost = np.all([m >= 1 for m in margins.values()], axis=0)
        if loss == "margin":
            # Beyond a factor of e, nothing is gained by being wrong more surely.
            losses = sum(np.minimum(m, 1) for m in margins.values())
            return Assessment(losses, wrong, lost)
        gradient = np.where(self._there[rows], self._vectors(gradients), 0)
        return Assessment(losses, wrong, lost, gradient)

    def start(self, rows) -> np.ndarray:
        """Random images within reach, `(len(rows), numbers)`."""
        shape = len(rows), self.clean.shape[1]
        if self.norm == "linf":
            change = self.rng.uniform(-self.eps, self.eps, shape)
        else:
            length = self.rng.uniform(0, self.eps, (len(rows), 1))
            change = length * self.direction(self.rng.standard_normal(shape))
        return self.project(self.clean[rows] + change.astype("float32"), rows)

    def direction(self, gradient) -> np.ndarray:
        """The change of length 1 in the norm that gains most, to first order."""
        if self.norm == "linf":
            return np.sign(gradient)
        length = np.linalg.norm(gradient, axis=1, keepdims=True)
        return gradient / np.where(length > 0, length, 1)

    def project(self, vectors, rows) -> np.ndarray:
        """Brings changed images back within `eps` and the bounds."""
        clean = self.clean[rows]
        change = np.where(self._there[rows], vectors - clean, 0)
        if self.norm == "linf":
            change = np.clip(change, -self.eps, self.eps)
        else:
            length = np.linalg.norm(change, axis=1, keepdims=True)
            change *= np.minimum(1, self.eps / np.maximum(length, 1e-12))
        return np.clip(clean + change, self.low, self.high).astype("float32")

    def _vectors(self, images):
        parts = [images[name].reshape(len(images[name]), -1) for name in self.slices]
        return np.concatenate(parts, axis=1)

    def _new_seed(self):
        return int(self._seeds.integers(2**31))


class Best:
    """The strongest change seen so far of every image: most tasks wrong, then loss.

    Args:
        problem: The problem.

    Attributes:
        vectors: The changed images.
        loss, wrong: What was found of them.
    """

    def __init__(self, problem: Problem):
        self._fixed = not problem.is_random
        self._many = problem.draws >= _MANY_DRAWS
        self._aimed = np.any([y >= 0 for y in problem.labels.values()], axis=0)
        self.vectors = problem.clean.copy()
        self.loss = np.full(len(problem), -np.inf)
        self.wrong = np.zeros(len(problem))
        self._lost = np.zeros(len(problem), bool)

    def update(self, vectors, rows, found: Assessment) -> None:
        """Takes note of changed images, where they are better."""
        better = found.wrong > self.wrong[rows]
        better |= (found.wrong == self.wrong[rows]) & (found.loss > self.loss[rows])
        self.vectors[rows[better]] = vectors[better]
        self.loss[rows[better]] = found.loss[better]
        self.wrong[rows[better]] = found.wrong[better]
        self._lost[rows[better]] = found.lost[better]

    def left(self, rows) -> np.ndarray:
        """Which of `rows` are worth another step, as a mask.

        One success is enough against a fixed classifier. A random one may have been
        unlucky, unless the mean of several draws is wrong beyond doubt. Without a
        label there is nothing to gain.
        """
        done = self.wrong[rows] == 1 if self._fixed else self._many & self._lost[rows]
        return self._aimed[rows] & ~done


def margin(probabilities, labels) -> np.ndarray:
    """Logarithm of the likeliest other class over the true one; 1 without a label."""
    p = np.log(np.maximum(probabilities, 1e-300))
    rows = np.arange(len(labels))
    own = p[rows, np.maximum(labels, 0)]
    p[rows, np.maximum(labels, 0)] = -np.inf
    return np.where(labels >= 0, p.max(axis=1) - own, 1.0)


def _numpy(tensor):
    return np.asarray(ops.convert_to_numpy(tensor))
