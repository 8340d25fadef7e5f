"""Experiments: networks x data sets x seeds, and the tables and figures of them."""

from drifa_keras.experiments.cells import Cell, cells
from drifa_keras.experiments.compare import compare
from drifa_keras.experiments.figures import draw_figures
from drifa_keras.experiments.results import Outcome, read_outcomes
from drifa_keras.experiments.statistics import (
    holm,
    interval_95,
    mean_and_interval,
    paired_p_values,
)
from drifa_keras.experiments.steps import read_steps, time_steps, write_steps
from drifa_keras.experiments.tables import Row, TaskTable, task_tables
from drifa_keras.experiments.write import to_csv, to_latex, to_markdown, write_tables

__all__ = [
    "Cell",
    "Outcome",
    "Row",
    "TaskTable",
    "cells",
    "compare",
    "draw_figures",
    "holm",
    "interval_95",
    "mean_and_interval",
    "paired_p_values",
    "read_outcomes",
    "read_steps",
    "task_tables",
    "time_steps",
    "to_csv",
    "to_latex",
    "to_markdown",
    "write_steps",
    "write_tables",
]
