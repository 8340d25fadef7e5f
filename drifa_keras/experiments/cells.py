"""The cells of an experiment: one network, one data set, one seed each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from drifa_keras.configs import Config, Experiment
from drifa_keras.models import presets
from drifa_keras.runs import Run, require_same


@dataclass(frozen=True)
class Cell:
    """One training of an experiment; its folder is an ordinary run folder.

    Attributes:
        dataset: Name of the data set in the experiment.
        model: Name of the network in the experiment.
        config: The configuration of the training.
        folder: `OUT/<dataset>/<model>/seed<k>`.
    """

    dataset: str
    model: str
    config: Config
    folder: Path

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def name(self) -> str:
        """What it is called where people read."""
        return f"{self.dataset}, {self.model}, seed {self.seed}"

    @property
    def failure(self) -> Path:
        """The file that says why it failed, where it did."""
        return self.folder.with_name(f"{self.folder.name}.error.txt")

    def trained_run(self) -> Run | None:
        """The run, where its training is done.

        Raises:
            ValueError: If the folder holds a run of another configuration.
        """
        if not (self.folder / "config.yaml").is_file():
            return None
        run = Run.open(self.folder)
        require_same(run, self.config)
        return None if run.unfinished else run

    def is_done(self) -> bool:
        """Whether it is trained and scored.

        Raises:
            ValueError: If the folder holds a run of another configuration.
        """
        run = self.trained_run()
        return run is not None and (run.folder / "metrics.json").is_file()

    @contextlib.contextmanager
    def claim(self) -> Iterator[bool]:
        """Yields whether the cell is this process's own for as long as it lasts.

        The operating system takes a claim back when the process ends, however it ends.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._lock)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def is_claimed(self) -> bool:
        """Whether another process computes it at this moment."""
        if not self._lock.is_file():
            return False
        with self.claim() as free:
            return not free

    @property
    def _lock(self):
        return self.folder.with_name(f".{self.folder.name}.lock")


def cells(
    experiment: Experiment,
    out: str | Path,
    overrides: Mapping[str, Any] | None = None,
) -> list[Cell]:
    """The cells of an experiment: data set by data set, seed by seed.

    Args:
        experiment: The experiment.
        out: The folder of all cells. Experiments may share one: a network of the same
            name and configuration is then trained once.
        overrides: Settings of every training, by dotted key.

    Raises:
        ValueError: If a network names an unknown preset.
    """
    for label, entry in experiment.models.items():
        if entry.preset is not None and entry.preset not in presets():
            raise ValueError(
                f"{experiment.name}: models.{label}: unknown preset {entry.preset!r}. "
                f"Presets are {sorted(presets())}."
            )
    return [
        Cell(
            dataset,
            model,
            experiment.config(dataset, model, seed, dict(overrides or {})),
            Path(out) / dataset / model / f"seed{seed}",
        )
        for dataset in experiment.datasets
        for seed in experiment.seeds
        for model in experiment.models
    ]
