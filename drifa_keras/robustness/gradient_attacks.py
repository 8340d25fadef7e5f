"""Attacks that follow the sign of the gradient: FGSM, BIM, MI-FGSM, PGD."""

from __future__ import annotations

import dataclasses

import numpy as np

from drifa_keras.robustness.attack import Attack


@dataclasses.dataclass(frozen=True)
class PGD(Attack):
    """Projected gradient descent.

    ```
    x <- project(x + step_size * eps * direction(gradient of the loss))
    ```

    from a random image within `eps`. The direction is the sign of the gradient in the
    maximum norm, and the gradient over its length in the Euclidean norm.

    Reference: Madry et al., *Towards Deep Learning Models Resistant to Adversarial
    Attacks*, ICLR 2018.

    Args:
        steps: Number of steps.
        restarts: Number of random starts.
        step_size: In units of `eps`; 2.5 / steps by default, at most 1.
        random_start: Whether to start from a random image rather than the clean one.
        momentum: Share of the former direction that is kept: 0 for none. Gradients
            are then scaled to a mean absolute value of 1 before they are added.
        loss: `"ce"`, cross-entropy, or `"dlr"`, the difference of logits ratio.
    """

    steps: int = 20
    step_size: float | None = None
    random_start: bool = True
    momentum: float = 0.0
    loss: str = "ce"

    def __post_init__(self):
        super().__post_init__()
        if self.step_size is not None and not self.step_size > 0:
            raise ValueError(
                f"`step_size` must be above 0. Received: {self.step_size!r}."
            )

    def climb(self, problem, rows, best):
        size = self.step_size or min(1.0, 2.5 / self.steps)
        x = problem.start(rows) if self.random_start else problem.clean[rows]
        velocity = np.zeros_like(x)
        for step in range(self.steps + 1):
            found = problem.assess(x, rows, self.loss)
            best.update(x, rows, found)
            left = best.left(rows)
            if step == self.steps or not left.any():
                break
            rows, x, gradient = rows[left], x[left], found.gradient[left]
            if self.momentum:
                scale = np.abs(gradient).mean(axis=1, keepdims=True)
                gradient = gradient / np.where(scale > 0, scale, 1)
            velocity = self.momentum * velocity[left] + gradient
            move = size * problem.eps * problem.direction(velocity)
            x = problem.project(x + move.astype("float32"), rows)


@dataclasses.dataclass(frozen=True)
class FGSM(PGD):
    """The fast gradient sign method: one step of length `eps` from the clean image.

    Reference: Goodfellow et al., *Explaining and Harnessing Adversarial Examples*,
    ICLR 2015.

    Its arguments are those of `PGD`.
    """

    steps: int = 1
    step_size: float | None = 1.0
    random_start: bool = False


@dataclasses.dataclass(frozen=True)
class BIM(PGD):
    """The basic iterative method: `PGD` from the clean image.

    Reference: Kurakin et al., *Adversarial Examples in the Physical World*, ICLR
    workshop 2017.

    Its arguments are those of `PGD`.
    """

    steps: int = 10
    random_start: bool = False


@dataclasses.dataclass(frozen=True)
class MIFGSM(BIM):
    """The momentum iterative fast gradient sign method.

    Reference: Dong et al., *Boosting Adversarial Attacks with Momentum*, CVPR 2018.

    Its arguments are those of `PGD`.
    """

    momentum: float = 1.0
