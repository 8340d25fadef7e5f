"""Explaining a run: which cases, their maps, and what each modality changes."""

import json
import shutil

import numpy as np
import pytest

from drifa_keras import explain
from drifa_keras.evaluation import explain_run, predict_test
from drifa_keras.runs import Run, read_sources, read_splits

PHANTOMS = {"reader": "phantoms", "options": {"n": 120, "image_size": 16}}
TASKS = {"skin_lesion": "dermoscopy", "ct_nodule": "ct"}
CASES = 2


@pytest.fixture(scope="module")
def run(make_run):
    return make_run(PHANTOMS)


@pytest.fixture(scope="module")
def report(run):
    return explain_run(run, cases=CASES, verbose=0)


@pytest.fixture(scope="module")
def arrays(run, report):
    with np.load(run.folder / "explain.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def test_part(run):
    pairing = read_sources(run.config)
    return read_splits(run, pairing).take(pairing, "test")


@pytest.fixture(scope="module")
def predictions(run, test_part):
    return predict_test(
        run.load_model(), test_part, run.config.data.size, draws=1, seed=run.config.seed
    )


def test_files_are_written(run, report):
    written = json.loads((run.folder / "explain.json").read_text())
    assert written == json.loads(json.dumps(report, allow_nan=False))
    assert (report["method"], report["seed"]) == ("grad_cam", 3)
    assert set(report["tasks"]) == set(TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_cases_are_the_surest_and_the_least_certain(task, report, predictions):
    of_task = predictions[task]
    p = of_task.probabilities[0].astype("float64")
    names = of_task.ids.tolist()
    sure = dict(zip(names, p.max(axis=1), strict=True))
    entropy = dict(zip(names, -(p * np.log(p)).sum(axis=1), strict=True))
    right = dict(zip(names, p.argmax(axis=1) == of_task.y_true, strict=True))
    wanted = {
        "right": sorted(filter(right.get, names), key=sure.get, reverse=True),
        "wrong": sorted((n for n in names if not right[n]), key=sure.get, reverse=True),
        "uncertain": sorted(names, key=entropy.get, reverse=True),
    }
    cases = report["tasks"][task]["cases"]
    for kind, ranked in wanted.items():
        values = entropy if kind == "uncertain" else sure
        found = [case["id"] for case in cases if case["kind"] == kind]
        assert len(found) == CASES
        np.testing.assert_allclose(  # by what they were ranked by: ties may swap
            [values[n] for n in found], [values[n] for n in ranked[:CASES]], atol=1e-5
        )
    for case in cases:
        row = names.index(case["id"])
        assert case["true"] == of_task.y_true[row]
        assert case["predicted"] == p[row].argmax()
        assert case["probability"] == pytest.approx(p[row].max(), abs=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_images_and_maps_are_those_of_the_cases(task, run, report, arrays, test_part):
    own = TASKS[task]
    source = test_part.sources[test_part.source_of_task(task)]
    ids = source.ids.tolist()
    cases = report["tasks"][task]["cases"]
    rows = [ids.index(case["id"]) for case in cases]
    images = {name: arrays[f"{task}.image.{name}"] for name in TASKS.values()}
    np.testing.assert_array_equal(images[own], source.modalities[own][rows])
    classes = [case["predicted"] for case in cases]
    wanted = explain.grad_cam(run.load_model(), images, task, classes)
    for name, maps in wanted.items():
        np.testing.assert_allclose(arrays[f"{task}.map.{name}"], maps, atol=1e-4)


@pytest.mark.parametrize("task", TASKS)
def test_points_and_effects(task, report, arrays, predictions):
    of_task = predictions[task]
    count = len(of_task.y_true)
    assert arrays[f"{task}.points"].shape == (count, 2)
    pairs = [arrays[f"{task}.{name}"] for name in ("y_true", "y_pred")]
    wanted = [of_task.y_true, of_task.probabilities[0].argmax(axis=1)]
    assert sorted(zip(*pairs, strict=True)) == sorted(zip(*wanted, strict=True))
    effects = report["tasks"][task]["effects"]
    assert set(effects) == set(TASKS.values())
    for effect in effects.values():
        assert set(effect) == {"blank", "shuffled", "flipped"}
        assert 0 < effect["shuffled"] <= 1 and 0 <= effect["flipped"] <= 1


def test_again_gives_the_same(run, report, arrays):
    assert explain_run(run, cases=CASES, verbose=0) == report
    with np.load(run.folder / "explain.npz") as file:
        assert set(file) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(file[name], array)


@pytest.mark.filterwarnings("ignore:Class .* is absent")
def test_more_cases_than_images(make_run):
    """And no more points than t-SNE can place."""
    run = make_run({"reader": "phantoms", "options": {"n": 20, "image_size": 16}})
    report = explain_run(run, cases=50, method="grad_cam++", verbose=0)
    assert report["method"] == "grad_cam++"
    for found in report["tasks"].values():
        kinds = [case["kind"] for case in found["cases"]]
        assert kinds.count("right") + kinds.count("wrong") == kinds.count("uncertain")
        assert 0 < kinds.count("uncertain") < 50


@pytest.mark.parametrize("cases", [0, -1, 1.5])
def test_number_of_cases(cases, run):
    with pytest.raises(ValueError, match=f"`cases` must be .* Received: {cases}"):
        explain_run(run, cases=cases)


def test_unknown_method(run):
    with pytest.raises(ValueError, match="`method` must be one of"):
        explain_run(run, method="cam", verbose=0)


def test_folders_without_a_run_or_a_model(run, tmp_path):
    with pytest.raises(ValueError, match=r"is no run folder: it has no config\.yaml"):
        Run.open(tmp_path)
    folder = tmp_path / "unfinished"
    shutil.copytree(run.folder, folder)
    (folder / "model.keras").unlink()
    with pytest.raises(ValueError, match="did not finish an epoch"):
        explain_run(Run.open(folder), verbose=0)
    (folder / "splits.json").unlink()
    with pytest.raises(ValueError, match=r"has no splits\.json"):
        explain_run(Run.open(folder), verbose=0)
