"""Reading exported networks, to compare them with the original."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np


def load_exported(path: str | Path) -> Callable:
    """Loads an exported network into its runtime.

    The runtimes are onnxruntime, ai-edge-litert, PyTorch and TensorFlow; none of them
    sees this package.

    Args:
        path: What `export` wrote.

    Returns:
        Function from a dict of float32 images `(batch, height, width, channels)` by
        modality to a dict of NumPy arrays by task.

    Raises:
        ValueError: If the path holds no exported network.
        ImportError: If the runtime is not installed.
    """
    path = Path(path)
    if path.is_dir() and (path / "saved_model.pb").is_file():
        return _saved_model(path)
    if path.suffix not in _LOADERS or not path.is_file():
        raise ValueError(
            f"{path} is no exported network: expected the folder of a SavedModel or a "
            f"file that ends with {', '.join(_LOADERS)}."
        )
    return _LOADERS[path.suffix](path)


def _saved_model(path):
    import tensorflow as tf

    # The function keeps no hold of its variables.
    loaded = tf.saved_model.load(str(path))

    def call(images):
        found = loaded.serve({name: tf.constant(x) for name, x in images.items()})
        return {task: values.numpy() for task, values in found.items()}

    return call


def _onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    tasks = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(tasks, session.run(tasks, images), strict=True))


def _litert(path):
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(str(path)).get_signature_runner()
    return lambda images: {task: x.copy() for task, x in run(**images).items()}


def _torch(path):
    import torch

    network = torch.export.load(path).module()

    def call(images):
        count = len(next(iter(images.values())))
        rows = [
            network({name: torch.tensor(x[i : i + 1]) for name, x in images.items()})
            for i in range(count)
        ]
        return {
            task: np.concatenate([row[task].detach().numpy() for row in rows])
            for task in rows[0]
        }

    return call


_LOADERS = {".onnx": _onnx, ".tflite": _litert, ".pt2": _torch}
