"""Arguments of attacks, checked before anything is computed."""

from __future__ import annotations

import math

import numpy as np

NORMS = ("linf", "l2")
LOSSES = ("ce", "dlr")


def check_count(name: str, value) -> int:
    """Returns a count, or raises a `ValueError` if it is not at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(
            f"`{name}` must be an integer of at least 1. Received: {value!r}."
        )
    return value


def check_loss(loss) -> str:
    """Returns the name of a loss, or raises a `ValueError`."""
    if loss not in LOSSES:
        raise ValueError(f"`loss` must be one of {LOSSES}. Received: loss={loss!r}.")
    return loss


def check_eps(eps, norm) -> float:
    """Returns the largest change, or raises a `ValueError`."""
    if norm not in NORMS:
        raise ValueError(f"`norm` must be one of {NORMS}. Received: norm={norm!r}.")
    number = isinstance(eps, (int, float)) and not isinstance(eps, bool)
    if norm == "linf" and not (number and 0 <= eps <= 1):
        raise ValueError(
            "`eps` is a share of the range of pixels, from 0 to 1; four grey levels of "
            f"255 are 4/255. Received: eps={eps!r}."
        )
    if not (number and 0 <= eps < math.inf):
        raise ValueError(
            "`eps` is a Euclidean length, with pixels scaled to 0..1, of at least 0. "
            f"Received: eps={eps!r}."
        )
    return float(eps)


def check_bounds(bounds) -> tuple[float, float]:
    """Returns the lowest and highest pixel, or raises a `ValueError`."""
    bounds = tuple(bounds)
    if len(bounds) != 2 or not bounds[0] < bounds[1]:
        raise ValueError(
            "`bounds` must be the lowest and the highest value of a pixel. Received: "
            f"{bounds}."
        )
    return float(bounds[0]), float(bounds[1])


def check_pixels(images: dict[str, np.ndarray], bounds: tuple[float, float]) -> None:
    """Raises a `ValueError` for images that are not within the bounds."""
    low, high = bounds
    for name, image in images.items():
        if not np.isfinite(image).all():
            raise ValueError(f"Input {name!r} holds NaN or infinite pixels.")
        lowest, highest = float(image.min()), float(image.max())
        if lowest < low or highest > high:
            raise ValueError(
                f"Input {name!r} has pixels from {lowest:g} to {highest:g}, outside "
                f"{low:g}..{high:g}. Pass the range that the model takes as `bounds`."
            )
        if high > 1 and 0 < highest <= 1:
            raise ValueError(
                f"Input {name!r} has no pixel above 1, where up to {high:g} is "
                "expected: it seems to be scaled to 0..1. Pass the images as the model "
                "takes them, and their range as `bounds`."
            )


def check_labels(y, tasks: dict[str, int], count: int) -> dict[str, np.ndarray]:
    """Returns integer labels for every task, -1 where unknown, or a `ValueError`."""
    if not isinstance(y, dict):
        if len(tasks) > 1:
            raise ValueError(
                f"`y` must be a dict of labels keyed by task, some of {list(tasks)}. "
                f"Received: {type(y).__name__}."
            )
        y = {next(iter(tasks)): y}
    check_names("y", list(y), tasks)
    labels = {task: np.full(count, -1) for task in tasks}
    for task, values in y.items():
        values = np.asarray(values)
        if values.shape != (count,) or values.dtype.kind not in "iu":
            raise ValueError(
                f"The labels of {task!r} must be {count} integers, one an image. "
                f"Received: shape {values.shape}, dtype {values.dtype}."
            )
        if values.min() < -1 or values.max() >= tasks[task]:
            raise ValueError(
                f"The labels of {task!r} must lie in 0..{tasks[task] - 1}, or be -1 "
                f"where unknown. Received: {values.min()} to {values.max()}."
            )
        labels[task] = values.astype("int32")
    return labels


def check_names(argument: str, names, known) -> list[str]:
    """Returns names that are known, all where there are none; or a `ValueError`."""
    names = list(known) if names is None else list(names)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(
            f"`{argument}` names one or more of {list(known)}. Received: {names}."
        )
    return names
