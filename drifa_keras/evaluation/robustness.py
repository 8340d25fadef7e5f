"""Attacking a run on its test split."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path
from zipfile import BadZipFile
from zlib import error as ZlibError

import numpy as np
from keras import tree

from drifa_keras import robustness
from drifa_keras.evaluation.evaluate import labelled_cases, network_of
from drifa_keras.runs import Run

_PROTOCOLS = {"light": robustness.LIGHT, "full": robustness.FULL}
_EXAMPLES = 4
# One batch, so that it takes no longer than a few.
_TRIED = 32
# Pixels of a modality in a batch: 128 images of 32x32, 8 of 128x128.
_BATCH_PIXELS = 2**17


def attack_run(
    run: Run,
    eps: Sequence[float] = (1 / 255, 2 / 255, 4 / 255, 8 / 255),
    images: int = 200,
    protocol: str = "light",
    attacks: Sequence[str] | None = None,
    draws: Sequence[int] = (1, 5, 10),
    votes: int = 10,
    each_task: bool = False,
    each_modality: bool = False,
    checks: bool = True,
    surrogate: Run | None = None,
    data_root: str | Path | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict:
    """Attacks a run on its test split.

    Writes `robustness.json`, and `robustness.npz` with some examples, those first
    whose answers an attack changes: images `image.clean.<modality>` and
    `image.attacked.<modality>`, `eps`, and for each task `<task>.clean` and
    `<task>.attacked`, the answers. `attacks.npz` keeps the outcome
    of every attack that is done, so that a run that was interrupted goes on, and one
    with more attacks adds to it. Of an ensemble, the first member is attacked.

    Args:
        run: The run.
        eps: Largest changes of a pixel, as shares of 255.
        images: Number of test cases, those first that have labels for all tasks.
        protocol: `"light"` or `"full"`: `drifa_keras.robustness.LIGHT` or `FULL`, the
            latter without the difference of logits ratio where a task has two classes.
        attacks: Names of the attacks of the protocol to make; all by default.
        draws: As for `drifa_keras.robustness.evaluate`.
        votes: As there.
        each_task: As there.
        each_modality: As there.
        checks: Whether to look for signs of masked gradients, at eps 4/255.
        surrogate: A run whose network makes images to try on this one.
        data_root: Folder that holds the data sets, where it is no longer the one of
            the training.
        progress: As for `drifa_keras.robustness.evaluate`.

    Returns:
        What `robustness.json` holds: what `drifa_keras.robustness.evaluate` returns,
        the `protocol`, and how the run was `trained`.

    Raises:
        ValueError: If an argument is not usable, or the data is not as its reader
            expects.
    """
    if protocol not in _PROTOCOLS:
        raise ValueError(
            f"`protocol` must be one of {list(_PROTOCOLS)}. Received: {protocol!r}."
        )
    if not isinstance(images, int) or images < 1:
        raise ValueError(
            f"`images` must be an integer of at least 1. Received: {images!r}."
        )
    chosen = _attacks(protocol, attacks, min(map(len, run.class_names.values())))
    config = run.config
    model = network_of(run)
    other = None if surrogate is None else network_of(surrogate)
    outcomes = _Outcomes(
        run.folder / "attacks.npz",
        _digest(run.model_path, [config.seed, votes, images]),
        "" if surrogate is None else _digest(surrogate.model_path),
    )
    x, y = labelled_cases(run, images, data_root, progress=progress is not None)
    report = robustness.evaluate(
        model,
        x,
        y,
        eps,
        chosen,
        draws=draws,
        votes=votes,
        each_task=each_task,
        each_modality=each_modality,
        check_at=4 / 255 if checks else None,
        batch_size=max(1, _BATCH_PIXELS // max(i[0, ..., 0].size for i in x.values())),
        surrogate=other,
        seed=config.seed,
        outcomes=outcomes,
        progress=progress,
    )
    adversarial = config.training.adversarial
    report = {
        "protocol": protocol,
        "trained": None if adversarial is None else adversarial.model_dump(),
        **report,
    }
    for task, found in report["tasks"].items():
        found["classes"] = list(run.class_names[task])
    arrays = _examples(model, x, y, report)
    np.savez_compressed(run.folder / "robustness.npz", **arrays)
    run.write_json("robustness.json", report)
    return report


def _attacks(protocol, names, classes):
    """The attacks of a protocol with some names that suit tasks of so many classes."""
    known = _PROTOCOLS[protocol]
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ValueError(
            f"`attacks` names attacks of the {protocol} protocol, some of "
            f"{list(known)}. Received: {unknown[0]!r}."
        )
    suitable = {
        name: attack
        for name, attack in known.items()
        if getattr(attack, "loss", None) != "dlr" or classes > 2
    }
    chosen = {
        name: attack
        for name, attack in suitable.items()
        if names is None or name in names
    }
    if not chosen:
        raise ValueError(
            f"`attacks` leaves none of {list(suitable)}. Received: {names}."
        )
    return chosen


def _examples(model, x, y, report):
    """Cases that are answered rightly, before and after an attack on all tasks."""
    eps, votes = report["check_at"] or report["eps"][-1], report["votes"]
    before = _answers(model, x, votes)
    right = np.all(
        [(before[task] == labels) & (labels >= 0) for task, labels in y.items()], axis=0
    )
    tried = np.flatnonzero(right)[:_TRIED]
    arrays = {"eps": np.float32(eps)}
    if not len(tried):
        return arrays
    attacked = robustness.PGD(20)(
        model,
        {name: images[tried] for name, images in x.items()},
        {task: labels[tried] for task, labels in y.items()},
        eps,
        draws=report["draws"][-1],
        seed=report["seed"],
    )
    after = _answers(model, attacked, votes)
    fooled = np.sum([after[task] != before[task][tried] for task in y], axis=0)
    shown = np.argsort(-fooled, kind="stable")[:_EXAMPLES]
    for name in x:
        arrays[f"image.clean.{name}"] = x[name][tried[shown]]
        arrays[f"image.attacked.{name}"] = attacked[name][shown]
    for task in y:
        arrays[f"{task}.clean"] = before[task][tried[shown]]
        arrays[f"{task}.attacked"] = after[task][shown]
    return arrays


def _answers(model, images, votes):
    """The likeliest class of each task, in the mean of some draws."""
    drawn = [model.predict(images, verbose=0) for _ in range(votes)]
    mean = tree.map_structure(lambda *p: np.mean(p, axis=0), *drawn)
    return {task: probabilities.argmax(axis=1) for task, probabilities in mean.items()}


def _digest(path: Path, settings=None) -> str:
    """Stands for what a file holds, and for JSON-able settings."""
    text = json.dumps(settings).encode()
    return hashlib.sha256(path.read_bytes() + text).hexdigest()


class _Outcomes(MutableMapping):
    """Outcomes of attacks in a file, which is whole at any moment.

    What the file holds of another origin is left out.

    Args:
        path: The file.
        origin: Stands for all that outcomes depend on beside their names.
        surrogate: Stands for the network behind those whose names begin with
            `transfer`.
    """

    def __init__(self, path: Path, origin: str, surrogate: str):
        self._path, self._origin, self._surrogate = path, origin, surrogate
        try:
            self._known = self._read() if path.is_file() else {}
        except (
            EOFError,
            KeyError,
            OSError,
            ValueError,
            BadZipFile,
            ZlibError,
        ) as error:
            raise ValueError(
                f"{path} is not what `drifa attack` wrote ({error}). Delete it: all "
                "attacks are run again."
            ) from error

    def _read(self):
        with np.load(self._path) as arrays:
            if str(arrays["origin"]) != self._origin:
                return {}
            same = str(arrays["surrogate"]) == self._surrogate
            return {
                name: arrays[str(number)]
                for number, name in enumerate(arrays["names"].tolist())
                if same or not name.startswith("transfer ")
            }

    def __getitem__(self, name):
        return self._known[name]

    def __setitem__(self, name, outcome):
        self._known[name] = outcome
        arrays = {str(i): array for i, array in enumerate(self._known.values())}
        names = np.array(list(self._known))
        part = self._path.with_suffix(".part.npz")
        with part.open("wb") as file:
            np.savez_compressed(
                file,
                origin=self._origin,
                surrogate=self._surrogate,
                names=names,
                **arrays,
            )
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._path)

    def __delitem__(self, name):
        del self._known[name]

    def __iter__(self):
        return iter(self._known)

    def __len__(self):
        return len(self._known)
