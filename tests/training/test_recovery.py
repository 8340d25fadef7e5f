"""A training that was interrupted ends as if it had not been."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import zipfile

import keras
import numpy as np
import pytest
import yaml

from drifa_keras.runs import STATE, Run
from drifa_keras.training import epochs_done, train, train_ensemble
from drifa_keras.training import recovery as recovery_module
from harness import as_numpy

# Dropout draws from seed generators, whose state has to come back too.
DROPOUT = {"dropout": 0.3, "dropout_after": [0]}


class Stop(Exception):
    pass


@pytest.fixture
def stop_after(monkeypatch):
    """Makes a training end with an exception once so many epochs are saved."""

    def stop(epochs):
        saved = recovery_module.Recovery.on_epoch_end

        def on_epoch_end(self, epoch, logs=None):
            saved(self, epoch, logs)
            if epoch + 1 == epochs:
                monkeypatch.undo()
                raise Stop

        monkeypatch.setattr(recovery_module.Recovery, "on_epoch_end", on_epoch_end)

    return stop


def history(folder):
    with open(folder / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert float(row.pop("seconds_per_step")) > 0
    return rows


def last_weights(run):
    """What the kept model holds, its optimizer included."""
    model = run.load_model()
    return [as_numpy(v) for v in [*model.weights, *model.optimizer.variables]]


def assert_same_end(one, other):
    assert history(one.folder) == history(other.folder)
    for first, second in zip(last_weights(one), last_weights(other), strict=True):
        np.testing.assert_array_equal(first, second)
    names = [sorted(p.name for p in run.folder.iterdir()) for run in (one, other)]
    assert names[0] == names[1]
    assert STATE not in names[0]


SCHEDULES = {
    # So high that some epochs are worse than the best, and the rate is lowered.
    "plateau": {"schedule": "plateau", "learning_rate": 0.3},
    "cosine": {"schedule": "cosine"},
    "adversarial": {"adversarial": {"eps": "4/255", "steps": 1}},
    "bfloat16": {"dtype": "mixed_bfloat16"},
    "float16": {"dtype": "mixed_float16"},
}


@pytest.mark.parametrize("case", SCHEDULES)
def test_interrupted_training_ends_as_an_uninterrupted_one(
    case, make_config, tmp_path, stop_after
):
    config = make_config(
        modalities=["ct"], arguments=DROPOUT, epochs=4, **SCHEDULES[case]
    )
    whole = train(config, tmp_path / "whole", verbose=0)
    stop_after(2)
    with pytest.raises(Stop):
        train(config, tmp_path / "parts", verbose=0)
    assert Run.open(tmp_path / "parts").unfinished
    assert epochs_done(tmp_path / "parts") == 2
    keras.utils.set_random_seed(99)  # what happened since does not matter
    parts = train(config, tmp_path / "parts", verbose=0)
    assert not parts.unfinished
    assert_same_end(whole, parts)


def test_what_callbacks_hold_comes_back(make_config, tmp_path, stop_after, monkeypatch):
    """An epoch that is not better than one before the interruption is not kept."""
    config = make_config(modalities=["ct"], epochs=4, schedule="plateau")
    stop_after(2)
    with pytest.raises(Stop):
        train(config, tmp_path / "run", verbose=0)
    path = tmp_path / "run" / STATE / "training.npz"
    with np.load(path) as saved:
        content = dict(saved)
    progress = json.loads(str(content["progress"]))
    held = {}
    for one in progress["callbacks"]:
        if "best" in one:
            one["best"] = -1.0  # no loss is below
        if "wait" in one:
            one["wait"] = 3
        held |= one
    assert set(held) == {"best", "wait", "cooldown_counter", "history", "epoch", "rows"}
    content["progress"] = np.array(json.dumps(progress))
    with path.open("wb") as file:
        np.savez(file, **content)
    before = (tmp_path / "run" / "model.keras").read_bytes()
    run = train(config, tmp_path / "run", verbose=0)
    assert run.model_path.read_bytes() == before
    rates = [float(row["learning_rate"]) for row in history(run.folder)]
    # Five epochs without a better one are complete at the end of the last.
    assert rates == pytest.approx([1e-3] * 4)
    assert len(rates) == 4


def test_interrupted_before_the_first_epoch(make_config, tmp_path, monkeypatch):
    config = make_config(modalities=["ct"], epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "fit", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(config, tmp_path / "run", verbose=0)
    assert epochs_done(tmp_path / "run") == 0
    run = train(config, tmp_path / "run", verbose=0)
    assert len(history(run.folder)) == 1


def test_what_killed_writes_left_is_removed(make_config, tmp_path, stop_after):
    config = make_config(modalities=["ct"])
    stop_after(1)
    with pytest.raises(Stop):
        train(config, tmp_path / "run", verbose=0)
    (tmp_path / "run" / ".4711-history.csv").write_text("epoch,lo")
    (tmp_path / "run" / ".my-notes").write_text("mine")
    train(config, tmp_path / "run", verbose=0)
    hidden = [p.name for p in (tmp_path / "run").iterdir() if p.name[0] == "."]
    assert hidden == [".my-notes"]


def test_splits_are_those_that_were_made(make_config, tmp_path, stop_after):
    config = make_config(modalities=["ct"], epochs=2)
    stop_after(1)
    with pytest.raises(Stop):
        train(config, tmp_path / "run", verbose=0)
    path = tmp_path / "run" / "splits.json"
    parts = json.loads(path.read_text())
    for part in parts.values():
        part["val"], part["test"] = part["test"], part["val"]
    path.write_text(json.dumps(parts))
    train(config, tmp_path / "run", verbose=0)
    assert json.loads(path.read_text()) == parts


def test_another_configuration_is_not_gone_on_with(make_config, tmp_path, stop_after):
    config = make_config(modalities=["ct"], epochs=2)
    stop_after(1)
    with pytest.raises(Stop):
        train(config, tmp_path / "run", verbose=0)
    with pytest.raises(ValueError, match=r"training\.batch_size = 4, not 8.*--out"):
        train(
            make_config(modalities=["ct"], epochs=2, batch_size=8),
            tmp_path / "run",
            verbose=0,
        )
    # Data that moved is the same data.
    data = config.data.model_copy(update={"root": str(tmp_path)})
    moved = config.model_copy(update={"data": data})
    assert len(history(train(moved, tmp_path / "run", verbose=0).folder)) == 2


def test_state_that_does_not_fit(make_config, tmp_path, stop_after):
    config = make_config(modalities=["ct"], epochs=2)
    stop_after(1)
    with pytest.raises(Stop):
        train(config, tmp_path / "run", verbose=0)
    path = tmp_path / "run" / STATE / "training.npz"
    with np.load(path) as saved:
        content = dict(saved)
    for change, message in (
        ({"v2": np.zeros(77)}, "another network"),
        (
            {"progress": np.array(json.dumps({"epochs": 1, "backend": "theano"}))},
            "begun on theano.*--backend theano",
        ),
    ):
        with path.open("wb") as file:
            np.savez(file, **{**content, **change})
        with pytest.raises(ValueError, match=message):
            train(config, tmp_path / "run", verbose=0)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"training\.npz cannot be read") as error:
        train(config, tmp_path / "run", verbose=0)
    assert "\n" not in str(error.value)


def test_ensemble_goes_on_with_the_member_that_was_interrupted(
    make_config, tmp_path, stop_after
):
    config = make_config(modalities=["ct"], epochs=3)
    whole = train_ensemble(config, tmp_path / "whole", members=2, verbose=0)
    train_ensemble(config, tmp_path / "parts", members=2, verbose=0)
    # As if it had been killed in the second member.
    parts = tmp_path / "parts"
    (parts / STATE).mkdir()
    for name in ("model.keras", "ensemble.json"):
        (parts / name).unlink()
    for path in (parts / "member_1").iterdir():
        path.unlink()
    (parts / "member_1").rmdir()
    first = (parts / "member_0" / "model.keras").read_bytes()
    stop_after(2)
    with pytest.raises(Stop):
        train_ensemble(config, parts, members=2, verbose=0)
    run = train_ensemble(config, parts, members=2, verbose=0)
    assert (parts / "member_0" / "model.keras").read_bytes() == first
    assert not run.unfinished
    for name in ("member_0", "member_1"):
        assert_same_end(Run.open(whole.folder / name), Run.open(parts / name))
    with pytest.raises(ValueError, match="exists already"):
        train_ensemble(config, parts, members=2, verbose=0)


SCRIPT = """
import sys, yaml
from drifa_keras.configs import parse_config
from drifa_keras.training import train
train(parse_config(yaml.safe_load(open(sys.argv[1]))), sys.argv[2], verbose=0)
"""


def require_whole(folder):
    """Every file of a run folder can be read to its end."""
    for path in folder.rglob("*"):
        # What is written, before it is moved to its place.
        part = path.name.startswith(".") or path == folder / STATE / "model.keras"
        if path.is_dir() or part:
            continue
        if path.suffix == ".csv":
            with path.open(newline="") as file:
                assert all(None not in row.values() for row in csv.DictReader(file))
        elif path.suffix in (".npz", ".keras"):
            assert zipfile.ZipFile(path).testzip() is None
        else:
            assert yaml.safe_load(path.read_text()) is not None  # JSON is YAML


@pytest.mark.large
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_killed_at_twenty_random_moments(make_config, tmp_path):
    config = make_config(modalities=["ct"], arguments=DROPOUT, epochs=300)
    whole = train(config, tmp_path / "whole", verbose=0)
    (tmp_path / "config.json").write_text(json.dumps(config.model_dump(mode="json")))
    folder = tmp_path / "parts"
    command = [
        *(sys.executable, "-c", SCRIPT),
        *(str(tmp_path / "config.json"), str(folder)),
    ]
    rng, reached, startup = np.random.default_rng(0), [], 0.0
    for kill in range(20):
        begun, start = epochs_done(folder), time.monotonic()
        process = subprocess.Popen(command)
        if startup and kill % 4 == 0:  # while it begins
            time.sleep(rng.uniform(0, startup))
        else:  # within the next epochs
            while epochs_done(folder) == begun:
                assert process.poll() is None
                time.sleep(0.01)
            startup = time.monotonic() - start
            time.sleep(rng.uniform(0, 0.5))
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        require_whole(folder)
        reached.append(epochs_done(folder))
    assert len(set(reached)) > 10
    subprocess.run(command, check=True)
    assert_same_end(whole, Run.open(folder))
