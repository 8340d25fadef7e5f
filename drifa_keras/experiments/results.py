"""What is known of the cells of an experiment."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from drifa_keras.configs import read_yaml
from drifa_keras.experiments.cells import Cell

# Beside the other files of a run: what its network costs.
COST = "cost.json"


@dataclass(frozen=True)
class Outcome:
    """What is known of a cell.

    Attributes:
        cell: The cell.
        state: `"done"`, `"failed"`, `"running"` (in another process),
            `"interrupted"` or `"waiting"`.
        reason: Why it failed.
        report: What `metrics.json` holds, of a cell that is done.
        cost: `parameters`, `multiply_adds` and `seconds_per_step` of it.
        resolved: `backend`, `versions` and `machine` of its training.
    """

    cell: Cell
    state: str
    reason: str = ""
    report: dict = field(default_factory=dict)
    cost: dict = field(default_factory=dict)
    resolved: dict = field(default_factory=dict)


def read_outcomes(cells: Sequence[Cell]) -> list[Outcome]:
    """Reads the folders of cells, at any time.

    Returns:
        One `Outcome` a cell, in their order. A cell whose folder holds a run of another
        configuration counts as failed.
    """
    return [_outcome(cell) for cell in cells]


def _outcome(cell):
    try:
        done = cell.is_done()
    except ValueError as error:
        return Outcome(cell, "failed", str(error))
    if done:
        folder = cell.folder
        report, cost = (
            json.loads((folder / name).read_text(encoding="utf-8"))
            for name in ("metrics.json", COST)
        )
        cost["seconds_per_step"] = _seconds(folder / "history.csv")
        resolved = read_yaml(folder / "config.yaml")["resolved"]
        return Outcome(cell, "done", report=report, cost=cost, resolved=resolved)
    if cell.is_claimed():
        return Outcome(cell, "running")
    if cell.failure.is_file():
        reason = cell.failure.read_text(encoding="utf-8").partition("\n")[0]
        return Outcome(cell, "failed", reason)
    return Outcome(cell, "interrupted" if cell.folder.is_dir() else "waiting")


def _seconds(path):
    """The median over the epochs of the time of a step."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return float(np.median([float(row["seconds_per_step"]) for row in rows]))
