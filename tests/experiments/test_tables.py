"""Tables: that they say what the runs found."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from drifa_keras.configs import parse_config
from drifa_keras.configs.experiment import Experiment
from drifa_keras.experiments import (
    Cell,
    Outcome,
    read_outcomes,
    task_tables,
    to_csv,
    to_latex,
    to_markdown,
    write_tables,
)

SCORES = {
    "Fused_net": {0: 0.80, 1: 0.84, 2: 0.82},
    "Plain & simple": {0: 0.79, 1: 0.80, 2: 0.81},
    "Half": {0: 0.70},
    "Lost": {},
}


def result(value, spread=0.004):
    metrics = {
        "accuracy": {"value": value, "spread": spread, "interval": None},
        "auc": None,
        "f1": {"value": value / 2, "spread": 0.0, "interval": None},
    }
    return {"images": 1234, "draws": 3, "metrics": metrics}


@pytest.fixture
def experiment():
    return Experiment(
        name="made",
        title="A table",
        datasets={"set_1": {"config": "phantoms"}},
        models={name: {} for name in ("Fused_net", "Half", "Lost")}
        | {"Plain (simple)": {}},
        seeds=[0, 1, 2],
        metrics=["accuracy", "f1", "auc"],
        paper={"lesion": {"Fused_net": {"accuracy": 98.2, "f1": 97.9}}},
        notes=["A note."],
    )


@pytest.fixture
def outcomes(experiment):
    scores = {**SCORES, "Plain (simple)": SCORES["Plain & simple"]}
    made = []
    for model in experiment.models:
        for seed in experiment.seeds:
            config = parse_config(
                {"seed": seed, "data": {"sources": [{"reader": "phantoms"}]}}
            )
            cell = Cell("set_1", model, config, Path("nowhere") / model / f"{seed}")
            value = scores[model].get(seed)
            if value is None:
                reason = "Out of memory_" if model == "Lost" else ""
                state = "failed" if model == "Lost" else "waiting"
                made.append(Outcome(cell, state, reason))
                continue
            report = {
                "tasks": {"lesion": result(value)},
                "missing": {"ct": {"lesion": result(value - 0.01 * (seed + 1))}},
            }
            if seed == 1:
                report["baselines"] = {"majority_class": {"lesion": result(0.6)}}
            cost = {
                "parameters": 1_234_567,
                "multiply_adds": None if model == "Half" else 7_654_321,
                "seconds_per_step": 0.1 * (seed + 1),
            }
            resolved = {
                "backend": "jax",
                "machine": "x86_64, 2 cores",
                "versions": {"keras": "3.15", "jax": "0.7"},
            }
            made.append(Outcome(cell, "done", "", report, cost, resolved))
    return made


def test_rows(experiment, outcomes):
    (table,) = task_tables(experiment, outcomes)
    assert (table.dataset, table.task, table.images) == ("set_1", "lesion", 1234)
    rows = {row.name: row for row in table.rows}
    assert list(rows) == [
        *("majority class", "Fused_net", "Half", "Lost", "Plain (simple)")
    ]
    fused, plain = rows["Fused_net"], rows["Plain (simple)"]
    assert fused.best and not plain.best
    assert fused.values["accuracy"] == SCORES["Fused_net"]
    assert fused.values["auc"] == {}
    one, other = (list(SCORES[n].values()) for n in ("Fused_net", "Plain & simple"))
    # Of the other rows, one alone has the seeds for a test.
    assert plain.p_value == pytest.approx(stats.ttest_rel(one, other).pvalue)
    assert rows["Half"].p_value is None
    assert fused.seconds_per_step == pytest.approx(0.2)
    assert fused.spread == pytest.approx(0.004)
    assert rows["Lost"].values["accuracy"] == {}
    assert fused.without["ct"] == pytest.approx({0: 0.79, 1: 0.82, 2: 0.79})


def markdown_rows(text):
    """Tables of a text, each a list of rows of cells."""
    tables = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line.strip("|"))
            tables[-1].append([cell.strip() for cell in cells])
        elif tables[-1]:
            tables.append([])
    return [table for table in tables if table]


def test_markdown(experiment, outcomes):
    tables = task_tables(experiment, outcomes)
    text = to_markdown(experiment, tables, outcomes, "drifa compare made")
    scores, partners = markdown_rows(text)
    assert scores[0] == [
        *("network", "seeds", "accuracy", "f1", "auc", "p", "parameters (M)"),
        *("multiply-adds (M)", "ms/step", "paper, own splits: accuracy / f1"),
    ]
    rows = {row[0]: row[1:] for row in scores[2:]}
    assert rows["majority class"][:5] == ["-", "60.0", "30.0", "-", "-"]
    half = stats.t.ppf(0.975, 2) * stats.sem([80, 84, 82])
    expected = ["3", f"82.0 ± {half:.1f}", f"41.0 ± {half / 2:.1f}", "-", "best"]
    assert rows["Fused_net"][:5] == expected
    assert rows["Fused_net"][5:] == ["1.23", "7.7", "200", "98.2 / 97.9"]
    assert rows["Half"] == [
        *("1 of 3", "70.0", "35.0", "-", "-", "1.23", "-", "100", "-")
    ]
    assert rows["Lost"] == ["0 of 3", *["-"] * 8]
    assert partners[0] == [
        *("network: accuracy", "all images", "sd over partners"),
        *("ct blank", "difference"),
    ]
    rows = {row[0]: row[1:] for row in partners[2:]}
    half = stats.t.ppf(0.975, 2) * stats.sem([1, 2, 3])
    assert rows["Fused_net"][1] == "0.40"
    assert rows["Fused_net"][3] == f"-2.0 ± {half:.1f}"
    for remark in (
        "Failed: set_1, Lost, seed 0: Out of memory_",
        "2 waiting",
        "drifa compare made",
        "x86_64, 2 cores",
        "keras 3.15",
        "A note.",
        "own splits",
        "seeds 0, 1, 2",
    ):
        assert remark in text
    # Columns stand under each other.
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        lines = block.splitlines()
        assert len({len(line) for line in lines}) == 1
        bars = [[m.start() for m in re.finditer(r"\|", line)] for line in lines]
        assert all(places == bars[0] for places in bars)


def test_csv(experiment, outcomes):
    text = to_csv(task_tables(experiment, outcomes))
    rows = {row["row"]: row for row in csv.DictReader(io.StringIO(text))}
    fused = rows["Fused_net"]
    values = list(SCORES["Fused_net"].values())
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    found = [float(fused[f"accuracy{end}"]) for end in ("", "_low", "_high")]
    assert found == pytest.approx([0.82, low, high])
    assert float(fused["f1_paper"]) == pytest.approx(0.979)
    assert float(fused["without_ct"]) == pytest.approx(0.80)
    assert fused["kind"] == "network" and rows["majority class"]["kind"] == "baseline"
    assert rows["Half"]["accuracy_low"] == ""
    assert rows["Lost"]["accuracy"] == ""
    assert len({len(row) for row in rows.values()}) == 1


def test_latex(experiment, outcomes):
    tables = task_tables(experiment, outcomes)
    text = to_latex(experiment, tables, outcomes, "drifa compare made")
    body = [line for line in text.splitlines() if not line.startswith("%")]
    for name in ("table", "tabular"):
        starts = [line for line in body if line.startswith(rf"\begin{{{name}}}")]
        ends = [line for line in body if line == rf"\end{{{name}}}"]
        assert len(starts) == len(ends) == 2
    columns = None
    for line in body:
        if found := re.match(r"\\begin\{tabular\}\{(\w+)\}", line):
            columns = len(found[1])
        if line.endswith(r"\\"):
            assert len(re.findall(r"(?<!\\)&", line)) == columns - 1
    joined = "\n".join(body)
    assert r"Fused\_net" in joined
    assert r"82.0 $\pm$" in joined
    assert not re.search(r"(?<!\\)[_%#]", joined)


def test_metric_that_was_not_measured(experiment, outcomes):
    changed = experiment.model_copy(update={"metrics": ["acuracy"]})
    with pytest.raises(ValueError, match=r"made.*'acuracy'.*'accuracy'"):
        task_tables(changed, outcomes)


def test_nothing_is_done_yet(experiment, tmp_path):
    written = write_tables(experiment, [], tmp_path, "drifa compare made")
    assert "# A table" in written["md"].read_text()
    assert task_tables(experiment, []) == []


def test_tables_of_real_runs(done, tmp_path):
    experiment, of_experiment, _ = done
    outcomes = read_outcomes(of_experiment)
    written = write_tables(experiment, outcomes, tmp_path, "drifa compare trial")
    assert {path.name for path in written.values()} == {
        *("trial.md", "trial.csv", "trial.tex")
    }
    tables = markdown_rows(written["md"].read_text(encoding="utf-8"))
    assert len(tables) == 4  # scores and partners of two tasks
    for scores, partners in (tables[:2], tables[2:]):
        assert [row[0] for row in scores[2:]] == [
            *("majority class", "nearest neighbour", "Fused", "Plain")
        ]
        assert [row[0] for row in partners[2:]] == ["Fused", "Plain"]
        place = scores[0].index("ms/step")
        assert all(float(row[place]) >= 0 for row in scores[4:])
    with written["csv"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        values = [
            o.report["tasks"][row["task"]]["metrics"]["accuracy"]["value"]
            for o in outcomes
            if o.cell.model == row["row"]
        ]
        if row["kind"] == "network":
            assert float(row["accuracy"]) == pytest.approx(np.mean(values))
            parameters = outcomes[0].cost["parameters"]
            assert (int(row["parameters"]) == parameters) == (row["row"] == "Fused")
