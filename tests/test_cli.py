"""The `drifa` command, called as the console script calls it."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml
from PIL import Image

import drifa_cli
import drifa_keras
from harness_cli import TINY, drifa

REPOSITORY = Path(__file__).resolve().parents[1]
TASKS = ("skin_lesion", "ct_nodule")


def failure(*arguments, folder=None):
    """The one line that a command says when the user got something wrong."""
    code, _, err = drifa(*arguments, folder=folder)
    assert code == 1, err
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("drifa: ")
    return lines[0]


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("configs") / "study.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


@pytest.fixture(scope="module")
def trained(config_file, tmp_path_factory):
    """What `drifa train` printed, and the run folder it chose."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "runs" / "study").mkdir(parents=True)  # that name is taken
    code, out, err = drifa(
        *("train", config_file, "--set", "training.epochs=2", "--seed", 5),
        *("--epochs", 1, "--set", "training.schedule=constant", "--baselines"),
        folder=folder,
    )
    assert code == 0, err
    return out, folder / "runs" / "study-2"


@pytest.fixture
def images(tmp_path):
    generator = np.random.default_rng(0)
    paths = {}
    for name, shape in (("dermoscopy", (20, 24, 3)), ("ct", (16, 16))):
        paths[name] = tmp_path / f"{name}.png"
        Image.fromarray(generator.integers(1, 256, shape).astype("uint8")).save(
            paths[name]
        )
    return paths


# === Help and version ===


def test_help_lists_the_commands():
    code, out, _ = drifa("--help")
    assert code == 0
    for command in ("demo", "train", "compare", "evaluate", "predict", "models"):
        assert command in out


@pytest.mark.parametrize("command", ["demo", "train", "evaluate", "predict", "models"])
def test_help_of_a_command(command):
    code, out, _ = drifa(command, "--help")
    assert code == 0
    assert "Usage" in out


def test_version():
    code, out, _ = drifa("--version")
    assert code == 0
    assert out.strip() == f"drifa_keras {drifa_keras.__version__}"


@pytest.mark.parametrize(
    "arguments",
    [("trane",), ("train",), ("evaluate",), ("predict", "run"), ("train", "x", "--no")],
)
def test_usage_errors_have_exit_code_2(arguments):
    code, _, err = drifa(*arguments)
    assert code == 2
    assert "Usage" in err
    assert "Traceback" not in err


# === The backend ===


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """Pretend that these backends are installed, and that Keras is not configured."""
    names = ["tensorflow", "jax", "torch"]
    monkeypatch.setattr(
        drifa_cli.importlib.util, "find_spec", lambda name: name in names or None
    )
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_BACKEND", "unset")
    monkeypatch.delenv("KERAS_BACKEND")
    return names


def configure(folder, text):
    (folder / "keras.json").write_text(text)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--backend", "jax", "train", "phantoms"],
        ["--backend=jax", "train", "phantoms"],
        ["train", "--backend", "jax", "phantoms"],
        ["train", "phantoms", "--backend=jax"],
        ["train", "phantoms", "--backend", "jax"],
    ],
)
def test_backend_counts_anywhere_on_the_line(arguments, installed, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert drifa_cli.choose_backend(arguments) == ["train", "phantoms"]
    assert os.environ["KERAS_BACKEND"] == "jax"


def test_backend_of_the_environment(installed, monkeypatch, tmp_path):
    configure(tmp_path, '{"backend": "jax"}')
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert drifa_cli.choose_backend(["models"]) == ["models"]
    assert os.environ["KERAS_BACKEND"] == "torch"


def test_backend_that_keras_is_configured_for(installed, tmp_path):
    configure(tmp_path, '{"backend": "torch"}')
    drifa_cli.choose_backend([])
    assert os.environ["KERAS_BACKEND"] == "torch"


@pytest.mark.parametrize("text", ['{"backend": "tensorflow"}', "{", "[]", "{}", None])
def test_else_whichever_is_installed(text, installed, tmp_path):
    installed.remove("tensorflow")
    if text is not None:
        configure(tmp_path, text)
    drifa_cli.choose_backend([])
    assert os.environ["KERAS_BACKEND"] == "jax"


@pytest.mark.parametrize("value", ["theano", "", "JAX"])
def test_bad_backend_name(value, installed):
    with pytest.raises(ValueError, match="tensorflow, jax, torch") as error:
        drifa_cli.choose_backend(["--backend", value])
    assert repr(value) in str(error.value)
    assert "KERAS_BACKEND" not in os.environ


def test_backend_without_a_name(installed):
    with pytest.raises(ValueError, match="--backend"):
        drifa_cli.choose_backend(["models", "--backend"])


def test_bad_name_in_the_environment(installed, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "theano")
    with pytest.raises(ValueError, match="'theano'"):
        drifa_cli.choose_backend(["models"])


@pytest.mark.parametrize("how", ["option", "environment"])
def test_backend_that_is_not_installed(how, installed, monkeypatch):
    installed.remove("torch")
    arguments = ["--backend", "torch"]
    if how == "environment":
        monkeypatch.setenv("KERAS_BACKEND", "torch")
        arguments = []
    with pytest.raises(ValueError, match=r"'torch' is not installed") as error:
        drifa_cli.choose_backend(arguments)
    assert "tensorflow, jax" in str(error.value)
    assert "drifa_keras[torch]" in str(error.value)


def test_help_needs_no_backend_but_work_does(installed, monkeypatch, capsys):
    installed.clear()
    assert drifa_cli.choose_backend(["--help"]) == ["--help"]
    assert "KERAS_BACKEND" not in os.environ
    monkeypatch.setattr(sys, "argv", ["drifa", "models"])
    with pytest.raises(SystemExit) as exit_:
        drifa_cli.main()
    assert exit_.value.code == 1
    assert "No backend is installed" in capsys.readouterr().err


# === Training and evaluation ===


def test_train_makes_a_whole_run(trained):
    out, folder = trained
    assert {path.name for path in folder.iterdir()} >= {
        "config.yaml",
        "history.csv",
        "metrics.json",
        "model.keras",
        "predictions.npz",
        "splits.json",
    }
    assert str(folder.name) in out
    for text in ("skin_lesion", "ct_nodule", "accuracy", "majority class"):
        assert text in out
    assert not list((folder.parent / "study").iterdir())  # left alone


def test_uncertainty_of_a_run(trained, tmp_path):
    folder = shutil.copytree(trained[1], tmp_path / "run")
    code, out, err = drifa("uncertainty", folder, "--passes", 2)
    assert code == 0, err
    for text in ("skin_lesion", "dropout", "NLL", "Answering the surest", "figures"):
        assert text in out
    assert (folder / "uncertainty.json").is_file()
    assert len(list((folder / "figures").glob("*.png"))) == 10


def test_explanation_of_a_run(trained, tmp_path):
    folder = shutil.copytree(trained[1], tmp_path / "run")
    code, out, err = drifa("explain", folder, "--cases", 2)
    assert code == 0, err
    for text in ("skin_lesion: another dermoscopy image", "explain.json", "figures"):
        assert text in out
    report = json.loads((folder / "explain.json").read_text())
    for task, found in report["tasks"].items():
        kinds = [case["kind"] for case in found["cases"]]
        assert kinds.count("uncertain") == 2
        right = [case for case in found["cases"] if case["kind"] == "right"]
        assert all(case["true"] == case["predicted"] for case in right)
        with np.load(folder / "explain.npz") as arrays:
            maps = arrays[f"{task}.map.ct"]
        assert len(maps) == len(kinds)
        assert maps.min() >= 0 and maps.max() <= 1
    assert (folder / "figures" / "grad_cam_uncertain_ct_nodule.png").is_file()


def test_report_of_a_run(trained, tmp_path):
    folder = shutil.copytree(trained[1], tmp_path / "run")
    code, out, err = drifa("report", folder)
    assert code == 0, err
    assert "report.html" in out
    assert "skin_lesion" in (folder / "report.html").read_text(encoding="utf-8")


def test_attack_on_a_run(trained, tmp_path):
    folder = shutil.copytree(trained[1], tmp_path / "run")
    code, out, err = drifa("attack", folder, "--eps", "4/255", "--images", 6)
    assert code == 0, err
    report = json.loads((folder / "robustness.json").read_text())
    assert report["eps"] == [4 / 255] and report["images"] == 6
    rows = {line.split()[1]: line for line in out.splitlines() if "│" in line}
    for task in TASKS:
        found = report["tasks"][task]
        assert found["images"] == 6 and task in out
        for size, row in (("0", found["clean"]), ("4/255", found["union"][0])):
            accuracy = row.get("accuracy", row)
            low, high = accuracy["interval"]
            cell = f"{accuracy['value']:.3f} ({low:.3f} to {high:.3f})"
            assert cell in rows[size]
        assert (folder / "figures" / f"attacks_{task}.png").is_file()
        assert (folder / "figures" / f"attack_steps_{task}.png").is_file()
    failed = [check for check in report["checks"] if check["holds"] is False]
    assert out.count("the accuracies above are too high") == len(failed)
    for name in ("robustness.json", "attacks.npz", "figures"):
        assert name in out
    count = len([1 for line in out.splitlines() if "/255" in line and "PGD" in line])
    assert count > 5  # what is under way, one line each where nothing moves


BAD_ATTACKS = {
    "a size that is no number": (["--eps", "1/255,few"], ("--eps", "'few'")),
    "a size over zero": (["--eps", "4/0"], ("--eps", "'4/0'")),
    "no size": (["--eps", ""], ("--eps", "''")),
    "a size in grey levels": (["--eps", "4"], ("`eps`", "4/255", "eps=4.0")),
    "half a draw": (["--draws", "1,1.5"], ("--draws", "'1.5'")),
    "unknown protocol": (["--protocol", "strong"], ("'light', 'full'", "'strong'")),
    "another run that is none": (["--transfer", "nowhere"], ("nowhere", "config.yaml")),
}


@pytest.mark.parametrize("case", BAD_ATTACKS)
def test_bad_attack_is_one_line(case, trained):
    arguments, parts = BAD_ATTACKS[case]
    message = failure("attack", trained[1], *arguments)
    for part in parts:
        assert part in message
    assert not (trained[1] / "attacks.npz").exists()


def test_attack_on_no_images_is_a_usage_error(trained):
    code, _, err = drifa("attack", trained[1], "--images", 0)
    assert code == 2
    assert "--images" in err


def test_ensemble_is_trained_and_read_like_a_run(config_file, images, tmp_path):
    folder = tmp_path / "run"
    settings = ("--epochs", 1, "--seed", 3, "--out", folder)
    code, out, err = drifa("train", config_file, "--members", 2, *settings)
    assert code == 0, err
    assert "Member 2 of 2, seed 7" in out
    assert "ensemble.json" in out
    assert (folder / "member_1" / "model.keras").is_file()
    assert (folder / "metrics.json").is_file()
    code, out, err = drifa("predict", folder, "--image", f"ct={images['ct']}")
    assert code == 0, err
    assert "ct_nodule" in out
    code, _, err = drifa("train", config_file, "--members", 0)
    assert code == 2 and "--members" in err


def test_flags_and_settings_reach_the_configuration(trained):
    content = yaml.safe_load((trained[1] / "config.yaml").read_text())
    assert content["name"] == "study"
    assert content["seed"] == 5
    assert content["training"]["schedule"] == "constant"
    assert content["training"]["batch_size"] == 8
    # Of two that say the same thing, the setting is the more particular.
    assert content["training"]["epochs"] == 2


def test_printed_table_is_that_of_the_metrics(trained):
    out, folder = trained
    metrics = json.loads((folder / "metrics.json").read_text())
    row = next(line for line in out.splitlines() if " balanced accuracy " in line)
    for task in ("skin_lesion", "ct_nodule"):
        result = metrics["tasks"][task]
        assert f"{result['images']} images" in out
        metric = result["metrics"]["balanced_accuracy"]
        low, high = metric["interval"]
        assert f"{metric['value']:.3f} ({low:.3f} to {high:.3f})" in row
    assert "2 draws" in out


def test_evaluate_gives_the_same_again_and_without_a_modality(trained):
    _, folder = trained
    before = json.loads((folder / "metrics.json").read_text())
    code, out, err = drifa("evaluate", folder, "--missing")
    assert code == 0, err
    assert "skin_lesion" in out
    after = json.loads((folder / "metrics.json").read_text())
    assert after["tasks"] == before["tasks"]
    assert "without ct" in out
    # A task cannot do without the only images that show what it asks for.
    assert set(after["missing"]["ct"]) == {"skin_lesion"}
    value = after["missing"]["ct"]["skin_lesion"]["metrics"]["accuracy"]["value"]
    assert f"{value:.3f}" in out.split("without ct")[1].splitlines()[1]


def test_existing_run_folder_is_never_overwritten(trained, config_file):
    _, folder = trained
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    message = failure("train", config_file, "--out", folder)
    assert str(folder) in message
    assert "--out" in message
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_demo_is_training_on_phantoms(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(drifa_cli, "train", lambda *a, **k: seen.append((a, k)))
    assert drifa("demo", "--out", tmp_path / "run", "--epochs", 2)[0] == 0
    assert seen == [(("phantoms",), {"out": tmp_path / "run", "epochs": 2})]


BAD_TRAINING = {
    "unknown configuration": (["nowhere"], ("'nowhere'", "phantoms")),
    "unknown key": (
        ["phantoms", "--set", "training.epoch=3"],
        ("training.epoch", "'epochs'"),
    ),
    "wrong type": (
        ["phantoms", "--set", "training.epochs=many"],
        ("training.epochs", "'many'"),
    ),
    "a setting without a value": (
        ["phantoms", "--set", "training.epochs"],
        ("--set", "KEY=VALUE", "'training.epochs'"),
    ),
    "a setting that is no YAML": (
        ["phantoms", "--set", "model.arguments.filters=[4"],
        ("model.arguments.filters",),
    ),
    "unknown preset": (["phantoms", "--preset", "drifa_huge"], ("'drifa_huge'",)),
    "unknown dtype": (["phantoms", "--dtype", "mixed_float8"], ("mixed_float8",)),
    "missing data": (
        ["ham10000_sipakmed_small", "--data-root", "nowhere"],
        ("nowhere",),
    ),
    "unknown argument of the network": (
        ["phantoms", "--set", "model.arguments.mffa=false"],
        ("mffa",),
    ),
    "unknown switch of a layer": (
        ["phantoms", "--set", "model.arguments.mfa={hafi: false}"],
        ("'hafi'", "'hifa'"),
    ),
    "unknown option of a reader": (
        ["phantoms", "--set", "data.sources=[{reader: phantoms, options: {m: 9}}]"],
        ("'m'",),
    ),
    "unknown reader": (
        ["phantoms", "--set", "data.sources=[{reader: ham1000}]"],
        ("'ham1000'", "ham10000"),
    ),
}


@pytest.mark.parametrize("case", BAD_TRAINING)
def test_bad_training_is_one_line(case, tmp_path):
    arguments, parts = BAD_TRAINING[case]
    message = failure("train", *arguments, "--out", tmp_path / "run", folder=tmp_path)
    for part in parts:
        assert part in message
    assert not (tmp_path / "run").exists()


def test_no_epochs_is_a_usage_error(tmp_path):
    code, _, err = drifa("train", "phantoms", "--epochs", 0, folder=tmp_path)
    assert code == 2
    assert "--epochs" in err


@pytest.mark.parametrize(
    "command", ["attack", "evaluate", "explain", "predict", "report"]
)
def test_folder_that_is_no_run(command, tmp_path):
    extra = ["--image", "ct=a.png"] if command == "predict" else []
    assert "config.yaml" in failure(command, tmp_path, *extra)


# === Prediction ===


def probabilities_of(trained, *arguments):
    code, out, err = drifa("predict", trained[1], *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def test_predict_as_json(trained, images):
    both = probabilities_of(
        trained, *(f"--image={name}={path}" for name, path in images.items())
    )
    assert set(both) == {"skin_lesion", "ct_nodule"}
    assert list(both["ct_nodule"]) == ["solid", "spiculated", "cavitary"]
    for classes in both.values():
        assert sum(classes.values()) == pytest.approx(1, abs=1e-5)
    # What the package itself gives for the same pixels.
    model = keras.models.load_model(trained[1] / "model.keras")
    arrays = {
        name: drifa_keras.data.read_image(
            path, model.modalities[name][:2], model.modalities[name][2]
        )[None]
        for name, path in images.items()
    }
    expected = drifa_keras.predict(model, arrays)
    for task, classes in both.items():
        np.testing.assert_allclose(list(classes.values()), expected[task][0], atol=1e-5)


def test_predict_with_a_missing_modality(trained, images):
    argument = f"dermoscopy={images['dermoscopy']}"
    one = probabilities_of(trained, "--image", argument)
    both = probabilities_of(
        trained, "--image", argument, "--image", f"ct={images['ct']}"
    )
    assert set(one) == set(both)
    assert one != both
    code, out, _ = drifa("predict", trained[1], "--image", argument)
    assert code == 0
    assert "Without: ct" in out


def test_predict_as_a_table(trained, images):
    code, out, _ = drifa(
        "predict", trained[1], *(f"--image={n}={p}" for n, p in images.items())
    )
    assert code == 0
    assert "Not for clinical use" in out
    for name in ("skin_lesion", "ring", "spotted", "ct_nodule", "spiculated"):
        assert name in out
    assert "Without" not in out


def bad_images(tmp_path, images):
    text = tmp_path / "notes.png"
    text.write_text("not an image")
    truncated = tmp_path / "half.png"
    content = images["ct"].read_bytes()
    truncated.write_bytes(content[: len(content) // 2])
    return {
        "unknown modality": ([f"mri={images['ct']}"], ("'ct', 'dermoscopy'", "mri=")),
        "no modality": ([str(images["ct"])], ("MODALITY=FILE", "'ct', 'dermoscopy'")),
        "no file": (["ct="], ("ct",)),
        "missing file": ([f"ct={tmp_path / 'a.png'}"], ("a.png", "does not exist")),
        "folder": ([f"ct={tmp_path}"], (str(tmp_path),)),
        "not an image": ([f"ct={text}"], ("notes.png", "not an image")),
        "truncated": ([f"ct={truncated}"], ("half.png", "truncated")),
        "twice": ([f"ct={images['ct']}"] * 2, ("'ct'", "twice")),
    }


@pytest.mark.parametrize(
    "case",
    [
        "unknown modality",
        "no modality",
        "no file",
        "missing file",
        "folder",
        "not an image",
        "truncated",
        "twice",
    ],
)
def test_bad_image_is_one_line(case, trained, images, tmp_path):
    entries, parts = bad_images(tmp_path, images)[case]
    arguments = [word for entry in entries for word in ("--image", entry)]
    message = failure("predict", trained[1], *arguments)
    for part in parts:
        assert part in message


# === Experiments ===


@pytest.fixture(scope="module")
def experiment(config_file):
    """An experiment of two networks whose training takes seconds."""
    content = {
        "datasets": {"made": {"config": config_file.name}},
        "models": {"Fused": {}, "Plain": {"arguments": {"mifa": False}}},
        "seeds": [1, 2],
        "metrics": ["accuracy", "auc"],
    }
    path = config_file.parent / "trial.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_compare_goes_on_and_ends_in_a_table(experiment, tmp_path):
    changes = ("--set", "training.epochs=1")
    part = ("compare", experiment, "--seed", 1, "--model", "Fused", *changes)
    code, out, err = drifa(*part, folder=tmp_path)
    assert code == 0, err
    assert "1/1 made, Fused, seed 1" in out
    assert "Not complete: 3 waiting." in out
    folder = tmp_path / "runs" / "trial"
    stamp = (folder / "made" / "Fused" / "seed1" / "model.keras").stat().st_mtime_ns
    whole = ("ablate", experiment, *changes, "--time", "--figures")
    code, out, err = drifa(*whole, "--out", "runs/trial", folder=tmp_path)
    assert code == 0, err
    assert "3/3 made, Plain, seed 2" in out
    assert "left" in out
    assert "Not complete" not in out
    for word in ("majority class", "nearest neighbour", "Fused", "Plain", "best"):
        assert word in out
    assert "drifa compare" in out and "--set training.epochs=1" in out
    for ending in ("md", "csv", "tex"):
        assert (folder / f"trial.{ending}").is_file()
    seconds = json.loads((folder / "trial_steps.json").read_text())
    assert list(seconds["made"]) == ["Fused", "Plain"]
    assert len(list((folder / "figures").glob("trial_*.png"))) == 4
    kept = folder / "made" / "Fused" / "seed1"
    assert (kept / "model.keras").stat().st_mtime_ns == stamp
    # A cell is a run like any other.
    code, _, err = drifa("evaluate", kept)
    assert code == 0, err


def test_only_the_data_sets_asked_for_are_timed(experiment, tmp_path, monkeypatch):
    content = yaml.safe_load(experiment.read_text())
    content["datasets"]["other"] = content["datasets"]["made"]
    both = experiment.with_name("both.yaml")
    both.write_text(yaml.safe_dump(content))
    timed = []
    monkeypatch.setattr(
        "drifa_keras.experiments.time_steps",
        lambda cells: timed.extend(cell.dataset for cell in cells) or {},
    )
    options = ("--no-train", "--time", "--dataset", "other", "--out", tmp_path)
    code, _, err = drifa("compare", both, *options)
    assert code == 0, err
    assert timed == ["other"] * 4


def test_table_of_what_is_there_and_of_what_failed(experiment, tmp_path):
    arguments = ("compare", experiment, "--out", tmp_path / "out")
    code, out, err = drifa(*arguments, "--no-train")
    assert code == 0, err
    assert "Not complete: 4 waiting." in out
    broken = ("--set", "data.sources=[{reader: nothing}]")
    code, out, err = drifa(*arguments, *broken)
    assert code == 1
    assert "Failed: made, Fused, seed 1:" in out
    assert err.strip() == "drifa: 4 of 4 trainings failed; see above."


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("nothing",), ("'nothing'", "table1_small")),
        (("trial.yaml", "--model", "Fussed"), ("--model", "'Fussed'", "'Fused'")),
        (("trial.yaml", "--dataset", "mad"), ("--dataset", "'mad'", "'made'")),
        (("trial.yaml", "--seed", "7"), ("--seed", "7", "[1, 2]")),
        (("study.yaml",), ("study.yaml", "datasets")),
    ],
)
def test_bad_comparison_is_one_line(arguments, parts, experiment):
    message = failure("compare", *arguments, folder=experiment.parent)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("code", "advice"),
    [(errno.ENOSPC, "Free some space"), (errno.EROFS, "Make the disk writable")],
)
def test_a_disk_that_takes_no_more(code, advice, config_file, monkeypatch, tmp_path):
    def full(self, epoch, logs=None):
        raise OSError(code, os.strerror(code))

    from drifa_keras.training import recovery

    with monkeypatch.context() as patched:
        patched.setattr(recovery.Recovery, "on_epoch_end", full)
        message = failure(
            "train", config_file, "--epochs", 1, "--out", "run", folder=tmp_path
        )
    assert os.strerror(code) in message and advice in message
    assert "the same command goes on" in message


def test_images_that_vanish_while_training(monkeypatch, tmp_path):
    """Images that do not fit into memory are read again in every epoch."""
    from drifa_keras.training import recovery

    generator = np.random.default_rng(0)
    for number in range(40):
        path = tmp_path / "scans" / f"{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    source = {"reader": "image_folder", "path": "scans", "options": {"modality": "ct"}}
    config = {**TINY, "data": {"sources": [source], "image_size": 16}}
    config["data"]["memory_limit_gib"] = 0
    (tmp_path / "ours.yaml").write_text(yaml.safe_dump(config))
    command = ("train", "ours.yaml", "--out", "mine", "--epochs", 3)
    saved = recovery.Recovery.on_epoch_end

    def vanish(self, epoch, logs=None):
        saved(self, epoch, logs)
        if epoch == 0:
            (tmp_path / "scans").rename(tmp_path / "away")

    with monkeypatch.context() as patch:
        patch.setattr(recovery.Recovery, "on_epoch_end", vanish)
        message = failure(*command, folder=tmp_path)
    assert re.search(r"scans.*png does not exist", message)
    (tmp_path / "away").rename(tmp_path / "scans")
    code, out, err = drifa(*command, folder=tmp_path)
    assert code == 0, err
    assert "Going on after 1 of 3 epochs." in out
    assert len((tmp_path / "mine" / "history.csv").read_text().splitlines()) == 4


def test_nothing_can_be_written(config_file, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    message = failure("train", config_file, "--out", "a/b/run", folder=tmp_path)
    assert "Nothing can be written to" in message and "a/b/run" in message
    assert not (tmp_path / "a").exists()


def test_interrupted_training_goes_on(config_file, monkeypatch, tmp_path):
    from drifa_keras.training import recovery

    arguments = ("train", config_file, "--out", "mine", "--epochs", 2)
    saved = recovery.Recovery.on_epoch_end

    def interrupted(self, epoch, logs=None):
        saved(self, epoch, logs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(recovery.Recovery, "on_epoch_end", interrupted)
        code, out, err = drifa(*arguments, folder=tmp_path)
    assert code == 130
    assert "--out mine goes on" in " ".join(out.split())
    assert "epochs = 2, not 3" in failure(*arguments[:-1], 3, folder=tmp_path)
    handler = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(
            recovery.Recovery,
            "on_train_batch_end",
            lambda *_, **__: signal.raise_signal(signal.SIGTERM),
        )
        code, out, err = drifa(*arguments, folder=tmp_path)
    assert (code, err) == (143, "drifa: Stopped by SIGTERM. What was saved stays.\n")
    assert signal.getsignal(signal.SIGTERM) is handler
    assert "Going on after 1 of 2 epochs." in out
    code, out, err = drifa(*arguments, folder=tmp_path)
    assert code == 0, err
    assert "Going on after 1 of 2 epochs." in out
    assert len((tmp_path / "mine" / "history.csv").read_text().splitlines()) == 3
    assert "exists already" in failure(*arguments, folder=tmp_path)


# === Presets ===


@pytest.mark.parametrize(
    "some",
    [
        ("drifa_resnet18_released", "drifa_inception_v3", "mail_tiny", "unet_tiny"),
        # To build all of them takes half a minute.
        pytest.param(tuple(drifa_keras.models.presets()), marks=pytest.mark.large),
    ],
    ids=["some", "all"],
)
def test_models_lists_the_presets(some, monkeypatch):
    known = drifa_keras.models.presets()
    shown = {name: known[name] for name in some}
    monkeypatch.setattr(drifa_keras.models, "presets", lambda: shown)
    code, out, err = drifa("models", "--image-size", 32)
    assert code == 0, err
    for name in some:
        assert name in out
    assert "53,884,870" in out  # whatever the size of the images
    assert "32x32x3" in out
    # Inception-v3 begins at 75 px.
    assert re.search(r"drifa_inception_v3 +\S +- \S +- ", out)


# === A process of its own ===


def test_command_in_a_process_of_its_own(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "drifa_cli", "evaluate", "nowhere", "--backend", "jax"]
        if keras.backend.backend() == "jax"
        else [sys.executable, "-m", "drifa_cli", "evaluate", "nowhere"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.strip().splitlines() == [
        "drifa: nowhere is no run folder: it has no config.yaml. `drifa train` makes "
        "one and prints where it is."
    ]
