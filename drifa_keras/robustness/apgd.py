"""Auto-PGD: projected gradient descent that sets its own step."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from drifa_keras.robustness.attack import Attack

# Of the paper: weight of the present step, share of steps that have to gain, and the
# rule by which checkpoints follow one another, as shares of all steps.
_ALPHA, _RHO = 0.75, 0.75
_FIRST_PERIOD, _SHORTER_BY, _LEAST_PERIOD = 0.22, 0.03, 0.06


@dataclasses.dataclass(frozen=True)
class APGD(Attack):
    """Auto-PGD: halves its step where it no longer gains, and goes back to the best.

    Reference: Croce and Hein, *Reliable Evaluation of Adversarial Robustness with an
    Ensemble of Diverse Parameter-free Attacks*, ICML 2020, Algorithm 1.

    Args:
        loss: `"ce"`, cross-entropy, or `"dlr"`, the difference of logits ratio, which
            does not depend on the scale of the logits and needs three classes.
        steps: Number of steps.
        restarts: Number of random starts.
    """

    loss: str = "ce"
    steps: int = 100

    def climb(self, problem, rows, best):
        x = problem.start(rows)
        found = problem.assess(x, rows, self.loss)
        best.update(x, rows, found)
        state = {
            "rows": rows,
            "x": x,
            "before": x,
            "loss": found.loss,
            "gradient": found.gradient,
            "size": np.full((len(rows), 1), 2 * problem.eps, "float32"),
            # the highest loss of this climb, and what it was at the last checkpoint
            "top": found.loss,
            "top_x": x,
            "top_gradient": found.gradient,
            "top_then": found.loss,
            "halved_then": np.zeros(len(rows), bool),
            "gains": np.zeros(len(rows), int),
        }
        checkpoints = _checkpoints(self.steps)
        for step in range(1, self.steps + 1):
            left = best.left(state["rows"])
            if not left.any():
                return
            state = {name: values[left] for name, values in state.items()}
            rows, x = state["rows"], state["x"]
            move = state["size"] * problem.direction(state["gradient"])
            ahead = problem.project(x + move, rows)
            share = _ALPHA if step > 1 else 1.0
            x = x + share * (ahead - x) + (1 - share) * (x - state["before"])
            x = problem.project(x, rows)
            found = problem.assess(x, rows, self.loss)
            best.update(x, rows, found)
            state["gains"] += found.loss > state["loss"]
            state |= {
                "before": state["x"],
                "x": x,
                "loss": found.loss,
                "gradient": found.gradient,
            }
            higher = found.loss > state["top"]
            _put(state, higher, top="loss", top_x="x", top_gradient="gradient")
            if step in checkpoints:
                few = state["gains"] < _RHO * (step - checkpoints[step])
                stuck = ~state["halved_then"] & (state["top"] == state["top_then"])
                halved = few | stuck
                state["size"] = np.where(halved[:, None], 0.5, 1) * state["size"]
                _put(state, halved, x="top_x", loss="top", gradient="top_gradient")
                state |= {
                    "top_then": state["top"],
                    "halved_then": halved,
                    "gains": np.zeros(len(rows), int),
                }


def _put(state, where, **sources):
    """Replaces the values of some rows by others of the state."""
    for name, source in sources.items():
        values = state[name]
        mask = where.reshape(-1, *[1] * (values.ndim - 1))
        state[name] = np.where(mask, state[source], values)


def _checkpoints(steps):
    """Steps at which the step size is judged, each with the one before it."""
    shares, steps_of = [0.0, _FIRST_PERIOD], {}
    while shares[-1] < 1:
        before, now = (math.ceil(share * steps) for share in shares[-2:])
        if now > before:
            steps_of[now] = before
        period = shares[-1] - shares[-2]
        shares.append(shares[-1] + max(period - _SHORTER_BY, _LEAST_PERIOD))
    return steps_of
