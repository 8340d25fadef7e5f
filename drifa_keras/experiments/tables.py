"""What an experiment found, as tables: one for each task of each data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from drifa_keras.configs import Experiment
from drifa_keras.experiments.results import Outcome
from drifa_keras.experiments.statistics import paired_p_values


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        name: Of the network or the baseline.
        trained: Whether it is a network; a baseline has one value and no seed.
        cells: Number of cells that it will have in the end.
        values: Metric to seed to value, 0..1.
        best: Whether no other network has a higher mean of the first metric.
        p_value: Of the test against the best network.
        paper: Metric to published value, in per cent.
        parameters, multiply_adds, seconds_per_step: What it costs.
        spread: Standard deviation of the first metric over draws of partners, mean
            over the seeds; `None` where there are no partners to draw.
        without: Modality to seed to the first metric without it.
    """

    name: str
    trained: bool
    cells: int
    values: dict[str, dict[int, float]]
    best: bool = False
    p_value: float | None = None
    paper: dict[str, float] = field(default_factory=dict)
    parameters: int | None = None
    multiply_adds: int | None = None
    seconds_per_step: float | None = None
    spread: float | None = None
    without: dict[str, dict[int, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskTable:
    """The table of one task of one data set.

    Attributes:
        dataset: Name of the data set in the experiment.
        task: Name of the task.
        images: Number of test images, where a cell is done.
        metrics: What is shown; networks are compared by the first.
        rows: Baselines first, then the networks.
        in_turns: Whether the steps of the networks were timed in turns, by
            `time_steps`; else each in its own training.
    """

    dataset: str
    task: str
    images: int
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    in_turns: bool = False


def task_tables(
    experiment: Experiment,
    outcomes: Sequence[Outcome],
    steps: Mapping[str, Mapping[str, float]] | None = None,
) -> list[TaskTable]:
    """Puts the outcomes of an experiment together.

    Args:
        experiment: The experiment.
        outcomes: Of its cells.
        steps: Seconds of a step, by data set and network, from `time_steps`; else
            those of the trainings.

    Returns:
        One `TaskTable` for each task of each data set of which a cell is done.

    Raises:
        ValueError: If a metric that is to be shown was measured nowhere.
    """
    tables, steps = [], steps or {}
    for dataset in experiment.datasets:
        of_dataset = [o for o in outcomes if o.cell.dataset == dataset]
        done = [o for o in of_dataset if o.state == "done"]
        for task in done[0].report["tasks"] if done else ():
            tables.append(
                _table(experiment, dataset, task, of_dataset, done, steps.get(dataset))
            )
    _check_metrics(experiment, outcomes)
    return tables


def _table(experiment, dataset, task, of_dataset, done, steps):
    metrics, first = experiment.metrics, experiment.metrics[0]
    rows = []
    for model in experiment.models:
        mine = [o for o in done if o.cell.model == model]
        reports = {o.cell.seed: o.report for o in mine}
        spreads = [
            found[task]["metrics"][first]["spread"]
            for found in (report["tasks"] for report in reports.values())
            if found[task].get("draws", 1) > 1
            and _value(found, task, first) is not None
        ]
        modalities = {m: None for r in reports.values() for m in r.get("missing", {})}
        without = {
            modality: _values(
                {s: r.get("missing", {}).get(modality, {}) for s, r in reports.items()},
                task,
                first,
            )
            for modality in modalities
        }
        rows.append(
            Row(
                name=model,
                trained=True,
                cells=sum(o.cell.model == model for o in of_dataset),
                values={
                    name: _values(
                        {s: r["tasks"] for s, r in reports.items()}, task, name
                    )
                    for name in metrics
                },
                paper=experiment.paper.get(task, {}).get(model, {}),
                spread=float(np.mean(spreads)) if spreads else None,
                without={m: found for m, found in without.items() if found},
                **_cost(mine, steps),
            )
        )
    best, p_values = paired_p_values({row.name: row.values[first] for row in rows})
    rows = [
        Row(
            **{**vars(row), "best": row.name == best, "p_value": p_values.get(row.name)}
        )
        for row in rows
    ]
    baselines = next(
        (o.report["baselines"] for o in done if "baselines" in o.report), {}
    )
    trivial = [
        Row(
            name=name.replace("_", " "),
            trained=False,
            cells=1,
            values={m: _values({0: found}, task, m) for m in metrics},
        )
        for name, found in baselines.items()
        if task in found
    ]
    images = done[0].report["tasks"][task]["images"]
    return TaskTable(
        dataset, task, images, tuple(metrics), (*trivial, *rows), bool(steps)
    )


def _values(tasks_of_seed, task, metric):
    """Seed to the value of a metric, where it was measured."""
    found = {s: _value(tasks, task, metric) for s, tasks in tasks_of_seed.items()}
    return {seed: value for seed, value in found.items() if value is not None}


def _value(tasks, task, metric):
    measured = tasks.get(task, {}).get("metrics", {}).get(metric)
    return None if measured is None else measured["value"]


def _cost(outcomes, steps):
    if not outcomes:
        return {}
    if steps:
        seconds = steps.get(outcomes[0].cell.model)
    else:
        seconds = float(np.median([o.cost["seconds_per_step"] for o in outcomes]))
    return {
        "parameters": outcomes[0].cost["parameters"],
        "multiply_adds": outcomes[0].cost["multiply_adds"],
        "seconds_per_step": seconds,
    }


def _check_metrics(experiment, outcomes):
    measured = {
        name
        for outcome in outcomes
        for result in outcome.report.get("tasks", {}).values()
        for name in result.get("metrics", {})
    }
    unknown = [name for name in experiment.metrics if measured and name not in measured]
    if unknown:
        raise ValueError(
            f"{experiment.name}: the metric {unknown[0]!r} was not measured. Measured "
            f"were {sorted(measured)}."
        )
