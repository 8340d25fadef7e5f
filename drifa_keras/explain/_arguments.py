"""What the functions of this package are handed: a model, images, a task."""

from __future__ import annotations

import keras
import numpy as np

from drifa_keras.gradients import outputs_by_task


def sizes_of(arrays: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """The shapes of one sample."""
    return {name: array.shape[1:] for name, array in arrays.items()}


def pick_task(model: keras.Model, task: str | None, maps: bool = False):
    """Returns the name and the output tensor of a task.

    It is `(batch, classes)`; with `maps`, `(batch, height, width, classes)` is taken,
    too.

    Raises:
        ValueError: If the task is unknown, is left open where there are several, or
            has outputs of another shape.
    """
    outputs = outputs_by_task(model)
    if task is None and len(outputs) == 1:
        task = next(iter(outputs))
    if task not in list(outputs):
        raise ValueError(
            f"`task` must be one of {list(outputs)}. Received: task={task!r}."
        )
    if len(outputs[task].shape) not in ((2, 4) if maps else (2,)):
        also = " or (batch, height, width, classes)" if maps else ""
        raise ValueError(
            f"Task {task!r} has outputs of shape {tuple(outputs[task].shape)}, but "
            "this explains classifications, whose outputs are (batch, classes)"
            f"{also}."
        )
    return task, outputs[task]


def class_indices(class_index, count: int, classes: int, task: str) -> np.ndarray:
    """Returns `(count,)` classes, -1 for the predicted one.

    Raises:
        ValueError: If a class is out of range, or there are not as many as samples.
    """
    if class_index is None:
        return np.full(count, -1)
    indices = np.asarray(class_index)
    if indices.dtype.kind not in "iu" or indices.shape not in ((), (count,)):
        raise ValueError(
            f"`class_index` must be an integer or {count} integers, one a sample. "
            f"Received: dtype {indices.dtype}, shape {indices.shape}."
        )
    if indices.min() < 0 or indices.max() >= classes:
        raise ValueError(
            f"`class_index` must lie in 0..{classes - 1} for task {task!r}. Received: "
            f"values from {indices.min()} to {indices.max()}."
        )
    return np.broadcast_to(indices, (count,))
