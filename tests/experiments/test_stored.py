"""The tables of the documentation say what is stored of their trainings."""

import csv
import io
from pathlib import Path

import pytest

from drifa_keras.configs import load_experiment
from drifa_keras.experiments import cells, read_outcomes, read_steps
from drifa_keras.experiments.tables import task_tables
from drifa_keras.experiments.write import to_csv

REPOSITORY = Path(__file__).resolve().parents[2]
STORED = REPOSITORY / "benchmarks" / "results" / "tables"
TABLES = sorted(path.stem for path in STORED.glob("*.csv"))


@pytest.mark.parametrize("name", TABLES)
def test_table_is_made_of_what_is_stored(name):
    experiment = load_experiment(name)
    outcomes = read_outcomes(cells(experiment, STORED))
    assert not [outcome.reason for outcome in outcomes if outcome.state == "failed"]
    steps = read_steps(experiment, STORED)
    made = to_csv(task_tables(experiment, outcomes, steps))
    stored = (STORED / f"{name}.csv").read_text(encoding="utf-8")
    for ours, theirs in zip(_rows(made), _rows(stored), strict=True):
        assert ours == pytest.approx(theirs)


@pytest.mark.parametrize("name", TABLES)
def test_documentation_shows_the_table(name):
    shown = (REPOSITORY / "docs" / "results.md").read_text(encoding="utf-8")
    stored = (STORED / f"{name}.md").read_text(encoding="utf-8")
    for line in stored.splitlines():
        assert not line.startswith("|") or line in shown


def _rows(text):
    return [
        {name: _number(value) for name, value in row.items()}
        for row in csv.DictReader(io.StringIO(text))
    ]


def _number(value):
    try:
        return float(value)
    except ValueError:
        return value
