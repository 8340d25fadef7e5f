"""Training and scoring what is left of an experiment."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Sequence

import keras

from drifa_keras.evaluation import evaluate
from drifa_keras.experiments.cells import Cell
from drifa_keras.experiments.results import COST
from drifa_keras.models import cost
from drifa_keras.runs import Run, write_text
from drifa_keras.training import Prepared, prepare, train


def compare(
    cells: Sequence[Cell],
    missing: bool = True,
    progress: Callable[[int, int, str], None] | None = None,
) -> None:
    """Trains and scores every cell that is not done.

    What is done is never computed again, an interrupted training goes on, and what
    fails is noted beside its folder (`<folder>.error.txt`) while the others go on; the
    next call tries it again. Several processes may work on the same cells: each cell is
    computed by one.

    Args:
        cells: Of `drifa_keras.experiments.cells`.
        missing: Whether networks are scored without each modality, too.
        progress: Called with the number of cells that are over, the number of those
            that were left, and the name of the one that begins, empty at the end; the
            cells of other processes do not count.

    Raises:
        ValueError: If the folder of a cell holds a run of another configuration.
    """
    left = [cell for cell in cells if not cell.is_done()]
    progress = progress or (lambda done, count, name: None)
    data = _Data()
    over, count = 0, len(left)
    for cell in left:
        with cell.claim() as mine:
            if not mine or cell.is_done():
                count -= 1
                continue
            progress(over, count, cell.name)
            over += 1
            try:
                _compute(cell, data, cells, missing)
            except Exception as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                write_text(cell.failure, f"{reason}\n\n{traceback.format_exc()}")
            else:
                cell.failure.unlink(missing_ok=True)
        keras.backend.clear_session()
    progress(over, count, "")


def _compute(cell: Cell, data: _Data, cells: Sequence[Cell], missing: bool) -> None:
    run = cell.trained_run()
    if run is None:
        prepared = data.of(cell)
        run = train(cell.config, cell.folder, verbose=0, prepared=prepared)
    model = run.load_model()
    counted = {"parameters": model.count_params(), "multiply_adds": None}
    with contextlib.suppress(ValueError):  # a layer of which it is not known
        counted["multiply_adds"] = cost(model).multiply_adds
    run.write_json(COST, counted)
    # The scores come last: they say that the cell is done.
    evaluate(
        run,
        baselines=not _has_baselines(cell, cells),
        missing=missing,
        data_root=cell.config.data.root,
        verbose=0,
    )


def _has_baselines(cell, cells):
    """Whether another network was scored on these images together with baselines."""
    others = [other for other in cells if other.dataset == cell.dataset]
    return any(
        "baselines" in Run.open(other.folder).read_json("metrics.json")
        for other in others
        if other.is_done()
    )


class _Data:
    """The data of the cell at hand, kept for the next one."""

    def __init__(self):
        self._dataset = self._found = None

    def of(self, cell: Cell) -> Prepared:
        if cell.dataset != self._dataset:
            self._dataset = cell.dataset
            try:
                self._found = prepare(cell.config, verbose=0)
            except Exception as error:
                self._found = error
        if isinstance(self._found, Exception):
            raise self._found
        return self._found
