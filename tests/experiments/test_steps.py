"""The time of a step: every network once a round, and what the table makes of it."""

import csv
import re

from drifa_keras.configs import load_experiment
from drifa_keras.experiments import (
    cells,
    read_outcomes,
    read_steps,
    steps,
    time_steps,
    write_steps,
    write_tables,
)


def rows(written):
    with written["csv"].open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_all_networks_step_in_turns(write_experiment, tmp_path, monkeypatch):
    experiment = load_experiment(write_experiment(tmp_path))
    turns = []
    step_of = steps._step

    def recorded(model, size):
        assert size == 8
        name = "Fused" if model.get_config()["mifa"] else "Plain"
        step = step_of(model, size)
        return lambda: (turns.append(name), step())

    monkeypatch.setattr(steps, "_step", recorded)
    seconds = time_steps(cells(experiment, tmp_path / "out"), rounds=3)
    assert turns == ["Fused", "Plain"] * 4  # the first round compiles
    assert list(seconds) == ["made up"]
    assert list(seconds["made up"]) == ["Fused", "Plain"]
    assert all(0 < value < 60 for value in seconds["made up"].values())
    assert not (tmp_path / "out").exists()


def test_table_shows_the_times_of_the_turns(done, tmp_path):
    experiment, of_experiment, _ = done
    outcomes = read_outcomes(of_experiment)
    written = write_tables(experiment, outcomes, tmp_path, "drifa compare trial")
    assert "`--time` compares them" in written["md"].read_text()
    assert read_steps(experiment, tmp_path) == {}

    seconds = {"made up": {"Fused": 1.234, "Plain": 0.5678}}
    path = write_steps(experiment, seconds, tmp_path)
    assert path.name == "trial_steps.json"
    assert read_steps(experiment, tmp_path) == seconds
    written = write_tables(experiment, outcomes, tmp_path, "drifa compare trial")
    text = written["md"].read_text()
    assert "`--time` compares them" not in text
    assert "in turns" in text
    assert re.search(r"\| Fused .*\| +1234 \|", text)
    assert re.search(r"\| Plain .*\| +568 \|", text)
    assert {row["seconds_per_step"] for row in rows(written)} >= {"1.234", "0.5678"}


def test_data_set_that_was_not_timed_keeps_its_times(done, tmp_path):
    experiment, _, _ = done
    write_steps(experiment, {"one": {"Fused": 1.0}, "other": {"Fused": 2.0}}, tmp_path)
    write_steps(experiment, {"other": {"Fused": 3.0}}, tmp_path)
    assert read_steps(experiment, tmp_path) == {
        "one": {"Fused": 1.0},
        "other": {"Fused": 3.0},
    }


def test_network_that_was_not_timed_has_no_time(done, tmp_path):
    experiment, of_experiment, _ = done
    write_steps(experiment, {"made up": {"Fused": 1.0}}, tmp_path)
    written = write_tables(experiment, read_outcomes(of_experiment), tmp_path, "x")
    found = {row["row"]: row["seconds_per_step"] for row in rows(written)}
    assert found["Fused"] == "1.0"
    assert found["Plain"] == ""
