"""Random changes: what an attack has to beat."""

from __future__ import annotations

import dataclasses

from drifa_keras.robustness.attack import Attack


@dataclasses.dataclass(frozen=True)
class RandomNoise(Attack):
    """The worst of several random images at the full distance `eps`: a baseline.

    In the maximum norm every pixel changes by plus or minus `eps`.

    Args:
        restarts: Number of random images.
    """

    def climb(self, problem, rows, best):
        noise = problem.rng.standard_normal((len(rows), problem.clean.shape[1]))
        move = problem.eps * problem.direction(noise).astype("float32")
        x = problem.project(problem.clean[rows] + move, rows)
        best.update(x, rows, problem.assess(x, rows, "margin"))
