"""The Square attack: random search, which needs no gradient."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from drifa_keras.robustness.attack import Attack

# After how many of 10,000 queries the share of pixels that change at once is halved.
_HALVED_AT = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@dataclasses.dataclass(frozen=True)
class Square(Attack):
    """The Square attack: squares of random places and signs, kept where they help.

    It asks for answers alone, so that no masking of gradients can stop it. Every query
    changes one square in one of the images of a sample, picked at random. In the
    maximum norm only.

    Reference: Andriushchenko et al., *Square Attack: a Query-efficient Black-box
    Adversarial Attack via Random Search*, ECCV 2020, Algorithms 1 and 2.

    Args:
        queries: Number of queries.
        share: Share of the pixels of an image that the first squares change.
        restarts: Number of random starts.
    """

    queries: int = 5000
    share: float = 0.8

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.share <= 1:
            raise ValueError(
                f"`share` must be above 0 and at most 1. Received: {self.share!r}."
            )

    def require(self, problem):
        if problem.norm != "linf":
            raise ValueError(
                "The Square attack is for the maximum norm. Received: "
                f"norm={problem.norm!r}. Use PGD or APGD."
            )
        flat = [name for name, shape in problem.shapes.items() if len(shape) != 3]
        if flat:
            raise ValueError(
                "The Square attack changes images (height, width, channels). Input "
                f"{flat[0]!r} has the shape {problem.shapes[flat[0]]}."
            )

    def climb(self, problem, rows, best):
        x = problem.project(problem.clean[rows] + self._stripes(problem, rows), rows)
        found = problem.assess(x, rows, "margin")
        best.update(x, rows, found)
        loss = found.loss
        for query in range(1, self.queries):
            left = best.left(rows)
            if not left.any():
                return
            rows, x, loss = rows[left], x[left], loss[left]
            moved = self._with_squares(problem, x, rows, self._share_at(query))
            found = problem.assess(moved, rows, "margin")
            best.update(moved, rows, found)
            better = found.loss > loss
            x = np.where(better[:, None], moved, x)
            loss = np.where(better, found.loss, loss)

    def _share_at(self, query):
        scaled = query / self.queries * 10_000
        return self.share / 2 ** sum(scaled > limit for limit in _HALVED_AT)

    def _stripes(self, problem, rows):
        """Vertical stripes of plus or minus eps, `(len(rows), numbers)`."""
        stripes = [
            np.repeat(
                problem.rng.choice([-1.0, 1.0], (len(rows), 1, width * channels)),
                height,
                axis=1,
            ).reshape(len(rows), -1)
            for height, width, channels in problem.shapes.values()
        ]
        return problem.eps * np.concatenate(stripes, axis=1)

    def _with_squares(self, problem, x, rows, share):
        """Images with one square each set to plus or minus eps, channel by channel."""
        rng, moved = problem.rng, x.copy()
        picked = rng.integers(len(problem.shapes), size=len(rows))
        for number, (name, shape) in enumerate(problem.shapes.items()):
            chosen, part = np.flatnonzero(picked == number), problem.slices[name]
            height, width, channels = shape
            side = round(math.sqrt(share * height * width))
            side = min(max(side, 1), height, width)
            inside = [
                _within(rng.integers(size - side + 1, size=len(chosen)), side, size)
                for size in (height, width)
            ]
            inside = inside[0][:, :, None, None] & inside[1][:, None, :, None]
            change = rng.choice(
                [-problem.eps, problem.eps], (len(chosen), 1, 1, channels)
            )
            clean = problem.clean[rows[chosen], part].reshape(-1, *shape)
            images = moved[chosen, part].reshape(-1, *shape)
            images = np.where(inside, clean + change, images)
            moved[chosen, part] = images.reshape(len(chosen), math.prod(shape))
        return problem.project(moved, rows)


def _within(start, length, size):
    """Which of `size` places lie in `[start, start + length)`, `(len(start), size)`."""
    places = np.arange(size)
    return (places >= start[:, None]) & (places < start[:, None] + length)
