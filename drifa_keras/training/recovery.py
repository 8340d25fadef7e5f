"""What an interrupted training goes on from."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np

from drifa_keras.runs import STATE, move_whole, write_whole

# What the callbacks of the recipe hold from one epoch to the next.
_HELD = ("best", "wait", "cooldown_counter", "history", "epoch", "rows")


def epochs_done(folder: str | Path) -> int:
    """How many epochs of an interrupted training in `folder` are done.

    `fit` goes on behind them, and has to be given batches that do so too:
    `drifa_keras.data.batches(..., first_epoch=epochs_done(folder))`.
    """
    progress, _, _ = _read(Path(folder))
    return progress["epochs"]


class Recovery(keras.callbacks.Callback):
    """Saves a training after every epoch, and restores it when `fit` begins.

    Saved are the weights, the state of optimizer and seed generators, and what the
    other callbacks hold, in one file that is there whole or not at all. The best model
    is moved from where `ModelCheckpoint` writes it, `best_path`, to `model.keras`, for
    the same reason. After the last epoch nothing is saved: one epoch at most is lost.

    Args:
        folder: The run folder.
        callbacks: The other callbacks of the `fit`. They have to stand before this one,
            so that they have seen an epoch when it is saved.

    Raises:
        ValueError: If the training was interrupted on another backend, or its file
            cannot be read.
    """

    def __init__(self, folder: Path, callbacks: list[keras.callbacks.Callback]):
        super().__init__()
        self._folder = folder
        self._callbacks = callbacks
        self._progress, self._arrays, self._torch_states = _read(folder)
        backend = self._progress["backend"]
        if backend != keras.backend.backend():
            raise ValueError(
                f"The training in {folder} was begun on {backend}, which draws other "
                f"random numbers. Go on with --backend {backend}."
            )

    @property
    def epochs(self) -> int:
        """How many epochs are done."""
        return self._progress["epochs"]

    @staticmethod
    def best_path(folder: Path) -> Path:
        """Where `ModelCheckpoint` writes the best model of a run folder."""
        return folder / STATE / "model.keras"

    def on_train_begin(self, logs=None):
        (self._folder / STATE).mkdir(parents=True, exist_ok=True)
        self.best_path(self._folder).unlink(missing_ok=True)  # it may be half
        if not self.epochs:
            return
        variables = self._variables()
        shapes = [tuple(variable.shape) for variable in variables]
        if shapes != [array.shape for array in self._arrays]:
            raise ValueError(
                f"The training in {self._folder} is that of another network. Choose "
                "another folder, or move it away."
            )
        for variable, array in zip(variables, self._arrays, strict=True):
            variable.assign(array)
        for callback, held in zip(
            self._callbacks, self._progress["callbacks"], strict=True
        ):
            for name, value in held.items():
                setattr(callback, name, value)
        self._arrays = []

    def on_train_batch_begin(self, batch, logs=None):
        # Not before: making the iterator of the data takes a number, too.
        _set_torch_states(self._torch_states)
        self._torch_states = []

    def on_epoch_end(self, epoch, logs=None):
        best = self.best_path(self._folder)
        if best.is_file():
            move_whole(best, self._folder / "model.keras")
        # A training that stops before its time has diverged.
        if self.model.stop_training or epoch + 1 == self.params["epochs"]:
            return
        progress = {
            "epochs": epoch + 1,
            "backend": keras.backend.backend(),
            "callbacks": [
                {name: value for name, value in vars(c).items() if name in _HELD}
                for c in self._callbacks
            ],
        }
        arrays = {f"v{k}": _array(v) for k, v in enumerate(self._variables())}
        arrays |= {f"torch{k}": state for k, state in enumerate(_torch_states())}
        text = json.dumps(progress, default=float)

        def write(part):
            with part.open("wb") as file:
                np.savez(file, progress=np.array(text), **arrays)

        write_whole(_file(self._folder), write)

    def finish(self) -> None:
        """Removes what was saved, once all is done."""
        shutil.rmtree(self._folder / STATE)

    def _variables(self):
        return [*self.model.variables, *self.model.optimizer.variables]


def _file(folder):
    return folder / STATE / "training.npz"


def _array(variable):
    array = keras.ops.convert_to_numpy(variable)
    # NumPy files know no bfloat16; every value of it is a float32.
    return array.astype("float32") if variable.dtype == "bfloat16" else array


def _torch_states():
    """States of PyTorch's own generators, which Keras' dropout draws from there."""
    if keras.backend.backend() != "torch":
        return []
    import torch

    states = [torch.get_rng_state()]
    if torch.cuda.is_available():
        states += torch.cuda.get_rng_state_all()
    return [state.numpy() for state in states]


def _set_torch_states(states):
    if not states:
        return
    import torch

    first, *others = [torch.from_numpy(state) for state in states]
    torch.set_rng_state(first)
    for device, state in enumerate(others[: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(state, device)


def _read(folder):
    """What was saved: the progress, the variables and the states of PyTorch."""
    path = _file(folder)
    if not path.is_file():
        progress = {"epochs": 0, "backend": keras.backend.backend(), "callbacks": []}
        return progress, [], []
    try:
        with np.load(path) as saved:
            progress = json.loads(str(saved["progress"]))
            arrays, states = (
                [saved[f"{kind}{k}"] for k in range(_count(saved, kind))]
                for kind in ("v", "torch")
            )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} cannot be read ({type(error).__name__}: {error}). Remove "
            f"{path.parents[1]} to train from the start."
        ) from error
    return progress, arrays, states


def _count(saved, kind):
    return sum(name.startswith(kind) for name in saved.files)
