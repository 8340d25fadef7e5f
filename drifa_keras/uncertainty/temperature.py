"""Temperature scaling: Guo et al., ICML 2017, Sec. 4.2."""

from __future__ import annotations

import warnings

import numpy as np

from drifa_keras.uncertainty._checks import (
    check_labels,
    check_logits,
    check_probabilities,
)

_LOWEST, _HIGHEST = 0.05, 100.0
_HALVINGS = 50


def optimal_temperature(logits, y_true) -> float:
    """The temperature by which logits are divided to have the least NLL.

    Fit it on validation images, never on those that are reported on. The logarithm
    of probabilities serves as logits too: those of a mean over passes, for instance.

    Reference: Guo et al., *On Calibration of Modern Neural Networks*, ICML 2017,
    Eq. 9 and Sec. 4.2.

    Args:
        logits: `(n, classes)`, before the softmax.
        y_true: Integer labels `(n,)`.

    Returns:
        The temperature, from 0.05 to 100, as float32 holds it. Above 1 the network
        was too sure. It is 1, with a warning, where the NLL keeps falling down to
        0.05, as when every label is predicted right: any certainty would seem
        justified then.

    Raises:
        ValueError: If logits are not finite, labels lie outside the classes, or shapes
            do not fit.
    """
    logits = check_logits(logits)
    y_true = check_labels(y_true, *logits.shape)
    logits = logits - logits.max(axis=1, keepdims=True)
    of_true = logits[np.arange(len(y_true)), y_true]

    def nll(temperature):
        scaled = logits / temperature
        return (np.log(np.exp(scaled).sum(axis=1)) - of_true / temperature).mean()

    def slope(log_inverse):
        """Derivative of the NLL by 1 / temperature, which only grows."""
        weights = np.exp(logits * np.exp(log_inverse))
        expected = (weights * logits).sum(axis=1) / weights.sum(axis=1)
        return (expected - of_true).mean()

    low, high = -np.log(_HIGHEST), -np.log(_LOWEST)
    if slope(high) <= 0:
        warnings.warn(
            f"The NLL of the {len(y_true)} validation labels keeps falling down to a "
            f"temperature of {_LOWEST}, so that it stays 1. Are they too few, all of "
            "them predicted right?",
            stacklevel=2,
        )
        return 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    temperature = float(np.float32(np.exp(-(low + high) / 2)))
    # In a flat minimum, rounding could make things worse by a hair.
    return temperature if nll(temperature) < nll(1.0) else 1.0


def apply_temperature(probabilities, temperature: float) -> np.ndarray:
    """Probabilities as the softmax of their logits over a temperature gives them.

    For those of which the logits are not at hand, such as a mean over passes.

    Args:
        probabilities: `(n, classes)`.
        temperature: Above 0; 1 leaves them as they are, up to their sum.

    Returns:
        `(n, classes)`, float64.

    Raises:
        ValueError: If the probabilities do not sum to one, or the temperature is not
            above 0.
    """
    probabilities = check_probabilities(probabilities).clip(0)
    _require_positive(temperature, "The temperature")
    # Only ratios count; those to the largest do not all underflow.
    ratios = probabilities / probabilities.max(axis=1, keepdims=True)
    powers = ratios ** (1 / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def fit_temperature(model, x, y, batch_size: int = 32) -> dict[str, float]:
    """Calibrates the heads of a model, each task by its own temperature.

    The temperature is a weight of the head, and saved with the model. It changes no
    ranking of the classes, and never raises the NLL of the images given.
    `set_temperature(model, 1.0)` undoes it.

    Args:
        model: A `MultimodalModel`; the members of an `Ensemble` one by one.
        x: Validation images, as `model.predict` takes them.
        y: Dict of task to integer labels `(n,)`, -1 where unknown. Tasks that are left
            out keep their temperature.
        batch_size: Number of samples at a time.

    Returns:
        Dict of task to temperature, as `optimal_temperature` finds it.

    Raises:
        ValueError: If the model has no `logits_model`, a task is unknown or without
            labels, or the data does not fit the model.
    """
    _require_heads(model)
    if not isinstance(y, dict):
        raise ValueError(
            f"`y` must be a dict of labels keyed by task, {list(model.tasks)}. "
            f"Received: {type(y).__name__}."
        )
    _require_tasks(model, y)
    model._check(x)
    logits = model.logits_model.predict(x, batch_size=batch_size, verbose=0)
    temperatures = {}
    for task, labels in y.items():
        labels = check_labels(labels, *logits[task].shape, unknown=True)
        known = labels >= 0
        if not known.any():
            raise ValueError(
                f"Task {task!r} has no known label. Leave it out of `y`, and it keeps "
                "its temperature."
            )
        temperatures[task] = optimal_temperature(logits[task][known], labels[known])
    set_temperature(model, temperatures)
    return temperatures


def set_temperature(model, temperature: float | dict[str, float]) -> None:
    """Sets the temperature of the heads of a model; 1.0 undoes `fit_temperature`.

    Args:
        model: A `MultimodalModel`.
        temperature: For all tasks, or a dict of task to temperature; tasks that it
            does not name keep theirs.

    Raises:
        ValueError: If the model has no such heads, a task is unknown, or a temperature
            is not above 0.
    """
    _require_heads(model)
    if not isinstance(temperature, dict):
        temperature = dict.fromkeys(model.tasks, temperature)
    _require_tasks(model, temperature)
    for task, value in temperature.items():
        _require_positive(value, f"The temperature of {task!r}")
    for task, value in temperature.items():
        model.get_layer(f"{task}_head").temperature.assign(float(value))


def _require_positive(value, name):
    number = isinstance(value, (int, float, np.number))
    if not number or not 0 < value < np.inf:
        raise ValueError(f"{name} must be a number above 0. Received: {value!r}.")


def _require_heads(model):
    if not hasattr(model, "logits_model"):
        raise ValueError(
            f"{type(model).__name__} has no `logits_model`, and no heads that hold a "
            "temperature, as a `MultimodalModel` has. Divide the logits of other "
            "models by `optimal_temperature(logits, y_true)` yourself."
        )


def _require_tasks(model, table):
    unknown = sorted(set(table) - set(model.tasks))
    if unknown:
        raise ValueError(
            f"There is no task {unknown[0]!r}. The tasks of {model.name} are "
            f"{list(model.tasks)}."
        )
