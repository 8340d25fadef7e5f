"""What a run folder holds, as far as it holds it."""

from __future__ import annotations

import csv
import shlex
from functools import cached_property
from pathlib import Path

import numpy as np

from drifa_keras.configs import Config
from drifa_keras.configs.schema import read_yaml
from drifa_keras.runs import Run, read_json

# All at once, as each time replaces what the one before wrote.
EVALUATE = "evaluate --baselines --missing"


class Contents:
    """The files of a run, read when they are asked for.

    A file that is not there is `None`, or empty where there may be several; one that
    cannot be read is a `ValueError`.

    Args:
        run: The run.
    """

    def __init__(self, run: Run):
        self.run = run

    @property
    def config(self) -> Config:
        """What the run was told."""
        return self.run.config

    @property
    def class_names(self) -> dict[str, tuple[str, ...]]:
        """Task name to the names of its classes."""
        return self.run.class_names

    @cached_property
    def resolved(self) -> dict:
        """What the run found out: backend, versions and machine."""
        return read_yaml(self.run.folder / "config.yaml")["resolved"]

    @cached_property
    def members(self) -> list[Run]:
        """The runs of the members of an ensemble; the run itself where it is none."""
        manifest = self._json("ensemble.json")
        if manifest is None:
            return [self.run]
        return [Run.open(self.run.folder / name) for name in manifest["members"]]

    @cached_property
    def histories(self) -> dict[str, dict[str, np.ndarray]]:
        """Name of each member to the columns of its `history.csv`."""
        read = {run.folder.name: _history(run.folder) for run in self.members}
        return {name: columns for name, columns in read.items() if columns}

    @cached_property
    def splits(self) -> dict | None:
        """Source name to its split, with groups."""
        return self._json("splits.json")

    @cached_property
    def metrics(self) -> dict | None:
        """What `drifa evaluate` measured."""
        return self._json("metrics.json")

    @cached_property
    def predictions(self) -> dict[str, np.ndarray] | None:
        """The test predictions that the metrics are of."""
        return self._arrays("predictions.npz")

    @cached_property
    def uncertainty(self) -> dict | None:
        """What `drifa uncertainty` measured."""
        return self._json("uncertainty.json")

    @cached_property
    def uncertainty_arrays(self) -> dict[str, np.ndarray] | None:
        """What the figures of uncertainty are drawn from."""
        return self._arrays("uncertainty.npz")

    @cached_property
    def explanations(self) -> dict | None:
        """What `drifa explain` chose and found."""
        return self._json("explain.json")

    @cached_property
    def explanation_arrays(self) -> dict[str, np.ndarray] | None:
        """What the figures of explanations are drawn from."""
        return self._arrays("explain.npz")

    @cached_property
    def robustness(self) -> dict | None:
        """What `drifa attack` measured."""
        return self._json("robustness.json")

    @cached_property
    def robustness_arrays(self) -> dict[str, np.ndarray] | None:
        """What the figures of attacks are drawn from."""
        return self._arrays("robustness.npz")

    @cached_property
    def audits(self) -> list[dict]:
        """What `drifa data audit` found, in any folder of the run."""
        return [
            read_json(path) for path in sorted(self.run.folder.glob("*/audit.json"))
        ]

    def command(self, command: str) -> str:
        """A command of `drifa` for this run, to be pasted into a shell."""
        return f"drifa {command} {shlex.quote(str(self.run.folder))}"

    def _json(self, name):
        path = self.run.folder / name
        return read_json(path) if path.is_file() else None

    def _arrays(self, name):
        path = self.run.folder / name
        if not path.is_file():
            return None
        with np.load(path) as arrays:
            return dict(arrays)


def _history(folder: Path) -> dict[str, np.ndarray]:
    """The columns of a `history.csv`, empty where there is no epoch."""
    path = folder / "history.csv"
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return {}
    return {
        name: np.asarray([float(row[name] or "nan") for row in rows])
        for name in rows[0]
    }
