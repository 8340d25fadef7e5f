"""Cells: computed once, by one process, whatever happens in between."""

import json
import shutil
import signal
import subprocess
import sys

import pytest

from drifa_keras.configs import load_experiment
from drifa_keras.experiments import cells, compare, read_outcomes
from drifa_keras.runs import STATE, Run


def copy(done, folder):
    """The experiment and its cells, done, in a folder of its own."""
    experiment, of_experiment, _ = done
    out = of_experiment[0].folder.parents[2]
    shutil.copytree(out, folder / "out")
    return experiment, cells(experiment, folder / "out")


def states(of_experiment):
    return [outcome.state for outcome in read_outcomes(of_experiment)]


def stamps(of_experiment):
    return [(cell.folder / "model.keras").stat().st_mtime_ns for cell in of_experiment]


def test_cell_is_a_run_folder(done):
    _, of_experiment, told = done
    assert [cell.name for cell in of_experiment] == [
        "made up, Fused, seed 3",
        "made up, Plain, seed 3",
        "made up, Fused, seed 4",
        "made up, Plain, seed 4",
    ]
    for cell in of_experiment:
        run = Run.open(cell.folder)
        assert run.config == cell.config
        assert run.config.seed == cell.seed
        assert run.config.training.epochs == 1
        report = run.read_json("metrics.json")
        assert set(report["missing"]) == {"dermoscopy", "ct"}
        assert run.read_json("cost.json")["parameters"] > 0
    assert of_experiment[1].config.model.arguments["mifa"] is False
    assert of_experiment[1].config.model.arguments["filters"] == [4]
    assert of_experiment[0].folder.relative_to(of_experiment[0].folder.parents[2]) == (
        of_experiment[0].folder.__class__("made up/Fused/seed3")
    )
    assert told == [
        *((number, 4, cell.name) for number, cell in enumerate(of_experiment)),
        (4, 4, ""),
    ]


def test_baselines_are_scored_once(done):
    _, of_experiment, _ = done
    reports = [Run.open(c.folder).read_json("metrics.json") for c in of_experiment]
    assert ["baselines" in report for report in reports] == [True, False, False, False]


def test_networks_of_one_seed_differ_and_seeds_too(done):
    _, of_experiment, _ = done
    files = {(c.folder / "predictions.npz").read_bytes() for c in of_experiment}
    assert len(files) == 4
    splits = {(c.folder / "splits.json").read_text() for c in of_experiment}
    assert len(splits) == 1


def test_what_is_done_is_not_done_again(done, monkeypatch):
    _, of_experiment, _ = done
    before = stamps(of_experiment)
    told = []
    compare(of_experiment, progress=lambda *news: told.append(news))
    assert told == [(0, 0, "")]
    assert stamps(of_experiment) == before


def test_half_finished_folder_goes_on(done, tmp_path):
    _, of_experiment = copy(done, tmp_path)
    before = stamps(of_experiment)
    _, scored, interrupted, new = of_experiment
    (scored.folder / "metrics.json").unlink()
    (interrupted.folder / STATE).mkdir()  # killed before its first epoch was over
    shutil.rmtree(new.folder)
    assert states(of_experiment) == ["done", "interrupted", "interrupted", "waiting"]
    names = []
    compare(of_experiment, progress=lambda done, count, name: names.append(name))
    assert names == [scored.name, interrupted.name, new.name, ""]
    assert states(of_experiment) == ["done"] * 4
    after = stamps(of_experiment)
    assert [a == b for a, b in zip(before, after, strict=True)] == [
        *(True, True, False, False)
    ]
    # And it is the same: the seed settles all.
    experiment, originals, _ = done
    for cell, original in zip(of_experiment, originals, strict=True):
        new_report, old_report = (
            Run.open(c.folder).read_json("metrics.json")["tasks"]
            for c in (cell, original)
        )
        assert new_report == old_report
    assert len(experiment.seeds) == 2


def test_failure_is_noted_and_the_others_go_on(write_experiment, tmp_path):
    models = {
        "Broken": {"arguments": {"mffa": True}},
        "Plain": {"arguments": {"mifa": False}},
    }
    path = write_experiment(tmp_path, models=models, seeds=[3], paper={})
    of_experiment = cells(load_experiment(path), tmp_path / "out")
    compare(of_experiment)
    broken, plain = read_outcomes(of_experiment)
    assert (broken.state, plain.state) == ("failed", "done")
    assert "mffa" in broken.reason
    assert "\n" not in broken.reason
    assert "Traceback" in broken.cell.failure.read_text()
    assert not broken.cell.folder.exists()
    # It is tried again, and the note goes once it works.
    broken.cell.failure.rename(plain.cell.failure)
    (plain.cell.folder / "metrics.json").unlink()
    compare(of_experiment)
    assert [outcome.state for outcome in read_outcomes(of_experiment)] == [
        *("failed", "done")
    ]
    assert not plain.cell.failure.exists()


def test_data_that_is_not_there_fails_every_cell(write_experiment, tmp_path):
    path = write_experiment(tmp_path)
    overrides = {
        "data.root": str(tmp_path),
        "data.sources": [{"reader": "ham10000"}],
    }
    of_experiment = cells(load_experiment(path), tmp_path / "out", overrides)
    compare(of_experiment)
    outcomes = read_outcomes(of_experiment)
    assert [outcome.state for outcome in outcomes] == ["failed"] * 4
    assert len({outcome.reason for outcome in outcomes}) == 1
    assert str(tmp_path) in outcomes[0].reason


def test_folder_of_another_configuration(done, tmp_path):
    experiment, _ = copy(done, tmp_path)
    changed = cells(experiment, tmp_path / "out", {"training.batch_size": 4})
    with pytest.raises(ValueError, match=r"training\.batch_size = 8, not 4"):
        compare(changed)
    outcomes = read_outcomes(changed)
    assert {outcome.state for outcome in outcomes} == {"failed"}
    assert "training.batch_size" in outcomes[0].reason


def test_cell_of_another_process_is_left_alone(done, tmp_path):
    _, of_experiment = copy(done, tmp_path)
    cell, other = of_experiment[2:]
    for unscored in (cell, other):
        (unscored.folder / "metrics.json").unlink()
    told = []
    with cell.claim() as mine:
        assert mine
        with cell.claim() as twice:
            assert not twice
        assert states(of_experiment)[2:] == ["running", "interrupted"]
        compare(of_experiment, progress=lambda *news: told.append(news))
        assert not (cell.folder / "metrics.json").exists()
    assert states(of_experiment)[2:] == ["interrupted", "done"]
    # What the other process does is not among what this one has left.
    assert told == [(0, 1, other.name), (1, 1, "")]
    compare(of_experiment)
    assert states(of_experiment)[2:] == ["done", "done"]


def test_claim_ends_with_its_process(done, tmp_path):
    _, of_experiment = copy(done, tmp_path)
    cell = of_experiment[0]
    lock = cell.folder.parent / ".seed3.lock"
    script = (
        "import sys, time; from filelock import FileLock; "
        "lock = FileLock(sys.argv[1]); lock.acquire(); print(flush=True); "
        "time.sleep(99)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(lock)], stdout=subprocess.PIPE
    )
    with process:
        process.stdout.readline()
        assert cell.is_claimed()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert lock.is_file()
    assert not cell.is_claimed()


def test_unknown_preset(write_experiment, tmp_path):
    models = {"X": {"preset": "drifa_tyni"}}
    path = write_experiment(tmp_path, models=models, paper={})
    with pytest.raises(ValueError, match=r"models\.X.*'drifa_tyni'.*'drifa_tiny'"):
        cells(load_experiment(path), tmp_path / "out")


def test_experiments_share_networks_of_the_same_name(done, write_experiment, tmp_path):
    _, of_first = copy(done, tmp_path)
    models = {"Plain": {"arguments": {"mifa": False}}}
    path = write_experiment(tmp_path, name="other", models=models, paper={})
    of_other = cells(load_experiment(path), tmp_path / "out")
    assert states(of_other) == ["done", "done"]
    assert {cell.folder for cell in of_other} <= {cell.folder for cell in of_first}
    assert json.loads((of_other[0].folder / "cost.json").read_text())
