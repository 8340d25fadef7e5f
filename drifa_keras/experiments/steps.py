"""The time of a training step of every network of an experiment, in turns."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import keras

from drifa_keras.configs import Experiment
from drifa_keras.experiments.cells import Cell
from drifa_keras.runs import read_sources, write_text
from drifa_keras.training import compile_model, random_batch
from drifa_keras.training.train import build_model


def time_steps(cells: Sequence[Cell], rounds: int = 10) -> dict[str, dict[str, float]]:
    """Times a training step of every network.

    Trainings on different days, or beside other jobs, cannot be compared by the clock.
    Here all networks of a data set are there at once, on one batch of random images,
    and make a step in turn, again and again, so that whatever else the machine does
    meets all of them alike.

    Args:
        cells: Of `drifa_keras.experiments.cells`, done or not; of each network the
            first is built anew. The data sets are read for the shapes of the images.
        rounds: How often each network makes a step.

    Returns:
        Data set to network to the median seconds of a step.
    """
    return {
        dataset: _in_turns([c for c in cells if c.dataset == dataset], rounds)
        for dataset in dict.fromkeys(cell.dataset for cell in cells)
    }


def write_steps(
    experiment: Experiment, seconds: dict[str, dict[str, float]], out: str | Path
) -> Path:
    """Writes `<out>/<name>_steps.json`, from which `write_tables` takes the times.

    Data sets that were not timed this time keep the times that they have there.
    """
    text = json.dumps({**read_steps(experiment, out), **seconds}, indent=2)
    return write_text(_path(experiment, out), f"{text}\n")


def read_steps(experiment: Experiment, out: str | Path) -> dict[str, dict[str, float]]:
    """What `write_steps` wrote, empty where it did not."""
    path = _path(experiment, out)
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _path(experiment, out):
    return Path(out) / f"{experiment.name}_steps.json"


def _in_turns(cells, rounds):
    configs = {}
    for cell in cells:
        configs.setdefault(cell.model, cell.config)
    pairing = read_sources(cells[0].config)
    step_of = {}
    for name, config in configs.items():
        settings = config.training
        model = build_model(config, pairing)
        compile_model(
            model,
            loss_weights=settings.loss_weights,
            schedule="constant",
            jit_compile=settings.jit_compile,
        )
        step_of[name] = _step(model, settings.batch_size)
        step_of[name]()  # which compiles
    seconds = {name: [] for name in step_of}
    for _ in range(rounds):
        for name, step in step_of.items():
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)
    step_of.clear()
    keras.backend.clear_session()
    return {name: statistics.median(times) for name, times in seconds.items()}


def _step(model, size):
    """A call that makes a training step on a random batch."""
    x, y = random_batch(model, size)
    return lambda: model.train_on_batch(x, y)
