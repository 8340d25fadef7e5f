"""The training recipe: compile, callbacks, fit."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import time
from pathlib import Path

import keras
import numpy as np

from drifa_keras.models import DiceCrossEntropy
from drifa_keras.runs import write_text
from drifa_keras.training.adversarial import adversarial_training
from drifa_keras.training.recovery import Recovery

_SCHEDULES = ("plateau", "cosine", "constant")


def rematerialized():
    """A scope for building networks that take less memory to train.

    The backward pass works the two branches of every MFA out again, in place of keeping
    their maps: a step takes longer and ends with the same weights.

    Returns:
        `keras.RematScope` of the layers of which nothing is random or has a state.

    Example:
    ```python
    with rematerialized():
        model = drifa_keras.DRIFANet(modalities, tasks)
    ```
    """
    return keras.RematScope("list_of_layers", layer_names=["hifa", "clia"])


def compile_model(
    model,
    learning_rate=1e-3,
    loss_weights: dict[str, float] | None = None,
    schedule: str = "plateau",
    steps: int | None = None,
    steps_per_epoch: int | None = None,
    jit_compile: bool | None = None,
) -> None:
    """Compiles a multi-task classifier as the paper trains it.

    Adam, and the weighted sum of the tasks' categorical cross-entropies (Eq. 9 of
    *Multimodal Fusion Learning with Dual Attention for Medical Imaging*, WACV 2025);
    `DiceCrossEntropy` for the tasks that classify every pixel.

    Args:
        model: A `MultimodalModel`.
        learning_rate: Initial learning rate.
        loss_weights: Task name to the weight of its loss; 1 / (number of tasks) each
            by default.
        schedule: `"plateau"` and `"constant"` keep the rate (the callback of `fit`
            lowers it on a plateau); `"cosine"` warms up for one epoch and goes down
            to 0 at step `steps`.
        steps: Steps of the whole training; for `"cosine"`.
        steps_per_epoch: Steps of an epoch; for `"cosine"`.
        jit_compile: Whether to compile with XLA. `None` leaves it to Keras: on JAX,
            and on TensorFlow with a GPU.
    """
    if schedule not in _SCHEDULES:
        raise ValueError(
            f"`schedule` must be one of {list(_SCHEDULES)}. Received: {schedule!r}."
        )
    if loss_weights is None:
        loss_weights = dict.fromkeys(model.tasks, 1 / len(model.tasks))
    if set(loss_weights) != set(model.tasks):
        raise ValueError(
            f"`loss_weights` must name the tasks {list(model.tasks)}. Received: "
            f"{sorted(loss_weights)}."
        )
    if schedule == "cosine":
        if not steps or not steps_per_epoch:
            raise ValueError(
                "The cosine schedule needs `steps` and `steps_per_epoch`. Received: "
                f"steps={steps}, steps_per_epoch={steps_per_epoch}."
            )
        warmup = min(steps_per_epoch, steps // 2)
        learning_rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else learning_rate,
            decay_steps=max(1, steps - warmup),
            warmup_target=learning_rate if warmup else None,
            warmup_steps=warmup,
        )
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss={
            task: DiceCrossEntropy()
            if task in model.maps
            else "categorical_crossentropy"
            for task in model.tasks
        },
        loss_weights=loss_weights,
        # Weights leave unknown labels out, and give each image of a source that is
        # repeated the same say.
        weighted_metrics={task: ["accuracy"] for task in model.tasks},
        jit_compile="auto" if jit_compile is None else jit_compile,
    )


def fit(
    model,
    train,
    val,
    epochs: int = 200,
    steps_per_epoch: int | None = None,
    schedule: str = "plateau",
    monitor: str = "val_loss",
    folder: str | Path | None = None,
    adversarial: dict | None = None,
    verbose: int | str = "auto",
):
    """Fits a compiled model, keeping the best epoch.

    With a `folder`, a training that was interrupted in it goes on, and ends with the
    history and the weights that it would have had.

    Args:
        model: A compiled `MultimodalModel`.
        train: Batches `(images, targets, weights)`, as `drifa_keras.data.batches`
            makes them, from the epoch `epochs_done(folder)` on.
        val: Batches of the validation split.
        epochs: Number of epochs.
        steps_per_epoch: Steps of an epoch, where `train` goes on without end.
        schedule: With `"plateau"` the learning rate is multiplied by 0.2 after 5
            epochs without a better `val_loss`, down to 1e-5.
        monitor: What picks the best epoch.
        folder: Where `model.keras` (the best epoch) and `history.csv` go, and `state`,
            which is there until the training is done; nothing is written by default.
            The model keeps its last weights.
        adversarial: Arguments of `adversarial_training`, to train on adversarial
            images.
        verbose: As in `keras.Model.fit`.

    Returns:
        The `keras.callbacks.History`.

    Raises:
        ValueError: If the loss became NaN or infinite, `monitor` names nothing that
            was measured, or the training in `folder` is that of another network.
    """
    callbacks = [keras.callbacks.TerminateOnNaN()]
    if schedule == "plateau":
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                monitor="val_loss", factor=0.2, patience=5, min_lr=1e-5
            )
        )
    if folder is not None:
        folder = Path(folder)
        only_task = next(iter(model.tasks)) if len(model.tasks) == 1 else None
        callbacks += [
            _HistoryCSV(folder / "history.csv", only_task),
            keras.callbacks.ModelCheckpoint(
                Recovery.best_path(folder),
                monitor=monitor,
                mode="min" if "loss" in monitor else "max",
                save_best_only=True,
            ),
        ]
    # Behind those that add to the measures of an epoch.
    callbacks.append(keras.callbacks.History())
    recovery = None if folder is None else Recovery(folder, callbacks)
    attacked = contextlib.nullcontext()
    if adversarial is not None:
        attacked = adversarial_training(model, **adversarial)
    with attacked:
        history = model.fit(
            train,
            validation_data=val,
            epochs=epochs,
            initial_epoch=recovery.epochs if recovery else 0,
            steps_per_epoch=steps_per_epoch,
            callbacks=[*callbacks, recovery] if recovery else callbacks,
            shuffle=False,  # the batches are shuffled already
            verbose=verbose,
        )
    losses = history.history.get("loss", [])
    if not losses or not math.isfinite(losses[-1]) or len(losses) < epochs:
        raise ValueError(
            f"The loss became NaN or infinite in epoch {max(1, len(losses))}. Lower "
            "the learning rate, or train in float32."
        )
    if monitor not in history.history:
        raise ValueError(
            f"`monitor` {monitor!r} was not measured, so that no best epoch was kept. "
            f"Measured were {sorted(history.history)}."
        )
    if recovery:
        recovery.finish()
    return history


class _HistoryCSV(keras.callbacks.Callback):
    """Writes the epochs as CSV, with the task's prefix even if there is one task.

    `seconds_per_step` is the median time from the end of a step to the end of the
    next, loading included: the first step, which compiles, and validation are not.
    """

    def __init__(self, path, only_task):
        super().__init__()
        self._path = path
        self._only_task = only_task
        self.rows = []

    def on_epoch_begin(self, epoch, logs=None):
        self._ends = [time.perf_counter()]

    def on_train_batch_end(self, batch, logs=None):
        self._ends.append(time.perf_counter())

    def on_epoch_end(self, epoch, logs=None):
        logs = dict(logs or {})
        if self._only_task:
            for part in ("", "val_"):
                for name in ("accuracy", "loss"):
                    if part + name in logs:
                        value = logs[part + name]
                        logs[f"{part}{self._only_task}_{name}"] = value
                        if name != "loss":
                            del logs[part + name]
        seconds = np.diff(self._ends)
        row = {
            "epoch": epoch,
            **{name: float(logs[name]) for name in sorted(logs)},
            "seconds_per_step": float(
                np.median(seconds[1:] if seconds[1:].size else seconds)
            ),
        }
        self.rows.append(row)
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.rows[0], restval="NA", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self._path, text.getvalue())
