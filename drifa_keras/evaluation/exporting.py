"""Exporting the network of a run, and comparing the file with the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from drifa_keras.deployment import default_name, export, load_exported
from drifa_keras.evaluation.evaluate import labelled_cases
from drifa_keras.layers import seed_states
from drifa_keras.runs import Run
from drifa_keras.uncertainty import Ensemble


def export_run(
    run: Run,
    format: str,
    path: str | Path | None = None,
    quantize: bool = False,
    images: int = 100,
    data_root: str | Path | None = None,
) -> dict:
    """Exports the network of a run and compares the file with it on test images.

    Args:
        run: The run, of one network.
        format: As for `drifa_keras.deployment.export`.
        path: Where to; `export/` in the run folder by default.
        quantize: As for `drifa_keras.deployment.export`.
        images: Number of test cases to compare the answers on; 0 for no comparison.
        data_root: Folder that holds the data sets, where it is no longer the one of
            the training.

    Returns:
        Dict of the `path`, the `bytes`, the number of `images` that were compared, and
        for each of the `tasks` what `compare_exported` found, by pixel where a task
        classifies every pixel. A network that is random at inference is not compared.

    Raises:
        ValueError: If the run is an ensemble, or as `drifa_keras.deployment.export`.
        ImportError: If the runtime to compare with is not installed; the file is there
            all the same.
    """
    model = run.load_model()
    if isinstance(model, Ensemble):
        raise ValueError(
            f"{run.folder} holds {len(model.members)} networks: an export is of one. "
            "Load `model.keras` and pass one of its `members` to "
            "`drifa_keras.deployment.export`."
        )
    if path is None:
        path = run.folder / "export" / default_name(format)
    path = export(model, path, format, quantize=quantize)
    report = {"path": str(path), "bytes": _size(path), "images": 0, "tasks": {}}
    if images and not seed_states(model, ["draw_generator"]):
        x, y = labelled_cases(run, images, data_root)
        report["images"] = len(next(iter(x.values())))
        report["tasks"] = compare_exported(model, load_exported(path), x, y)
    return report


def compare_exported(model, exported, x, y=None) -> dict[str, dict[str, float]]:
    """How far the answers of an exported network are from those of the original.

    Args:
        model: The original.
        exported: Function, as `drifa_keras.deployment.load_exported` returns it.
        x: Float32 images by modality.
        y: Labels by task, -1 where unknown, for the accuracies.

    Returns:
        Dict of task name to the largest `difference` of a probability and the share of
        `equal_answers`; with labels also the `accuracy` of the original and that of the
        exported network, `exported_accuracy`.
    """
    wanted, found = model.predict(x, verbose=0), exported(x)
    report = {}
    for task, probabilities in wanted.items():
        before, after = probabilities.argmax(-1), found[task].argmax(-1)
        report[task] = {
            "difference": float(np.abs(found[task] - probabilities).max()),
            "equal_answers": float((after == before).mean()),
        }
        if y is not None and (known := y[task] >= 0).any():
            labels = y[task][known]
            report[task] |= {
                "accuracy": float((before[known] == labels).mean()),
                "exported_accuracy": float((after[known] == labels).mean()),
            }
    return report


def _size(path):
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())
