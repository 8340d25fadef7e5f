"""What the functions of this package are handed: a model, images, a task."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops


def named_arrays(model: keras.Model, x) -> dict[str, np.ndarray]:
    """Checks the images of a model and keys them by the names of its inputs.

    Args:
        model: A Functional model.
        x: Dict of arrays keyed by the names of the inputs, a list of arrays in the
            order of the inputs, or the one array of a model with one input.

    Returns:
        Dict of NumPy arrays, in the order of the model's inputs.

    Raises:
        ValueError: If names, shapes or the numbers of samples do not fit.
    """
    shapes = {tensor.name: tuple(tensor.shape) for tensor in model.inputs}
    if not isinstance(x, dict):
        arrays = list(x) if isinstance(x, (list, tuple)) else [x]
        if len(arrays) != len(shapes):
            raise ValueError(
                f"The model has {len(shapes)} inputs. Received: {len(arrays)}. Pass a "
                f"dict with the keys {list(shapes)}."
            )
        x = dict(zip(shapes, arrays, strict=True))
    if set(x) != set(shapes):
        odd = sorted(set(x) ^ set(shapes), key=str)[0]
        raise ValueError(
            f"{'Unknown' if odd in x else 'Missing'} input {odd!r}. The model has the "
            f"inputs {list(shapes)}. Received: {sorted(x, key=str)}. An absent image "
            "is one of zeros."
        )
    arrays = {name: _as_numpy(x[name]) for name in shapes}
    for name, wanted in shapes.items():
        shape = arrays[name].shape
        if len(shape) != len(wanted) or any(
            size not in (None, received)
            for size, received in zip(wanted[1:], shape[1:], strict=True)
        ):
            raise ValueError(
                f"Input {name!r} takes arrays of shape {wanted}. Received: {shape}."
            )
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1 or not all(lengths.values()):
        raise ValueError(
            f"All inputs need equally many samples, at least one. Received: {lengths}."
        )
    return arrays


def sizes_of(arrays: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """The shapes of one sample."""
    return {name: array.shape[1:] for name, array in arrays.items()}


def outputs_by_task(model: keras.Model) -> dict:
    """The outputs of a Functional model by their keys, or else their names."""
    if isinstance(model.output, dict):
        return model.output
    return dict(zip(model.output_names, model.outputs, strict=True))


def pick_task(model: keras.Model, task: str | None):
    """Returns the name and the output tensor `(batch, classes)` of a task.

    Raises:
        ValueError: If the task is unknown, is left open where there are several, or
            is no classification.
    """
    outputs = outputs_by_task(model)
    if task is None and len(outputs) == 1:
        task = next(iter(outputs))
    if task not in list(outputs):
        raise ValueError(
            f"`task` must be one of {list(outputs)}. Received: task={task!r}."
        )
    if len(outputs[task].shape) != 2:
        raise ValueError(
            f"Task {task!r} has outputs of shape {tuple(outputs[task].shape)}, but "
            "this explains classifications, whose outputs are (batch, classes)."
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


def _as_numpy(array):
    return array if isinstance(array, np.ndarray) else ops.convert_to_numpy(array)
