"""Scoring a run: every test image once in every draw, and baselines beside it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, precision_score, recall_score

from drifa_keras import predict
from drifa_keras.data import Source, pair
from drifa_keras.evaluation import (
    METRICS,
    baseline_predictions,
    evaluate,
    predict_test,
    summarize,
)
from drifa_keras.runs import Run, read_sources, read_splits

PHANTOMS = {"reader": "phantoms", "options": {"n": 120, "image_size": 16}}


@pytest.fixture(scope="module")
def run(make_run):
    return make_run(PHANTOMS, partner_draws=3)


@pytest.fixture(scope="module")
def report(run):
    return evaluate(run, baselines=True, missing=True, verbose=0)


@pytest.fixture(scope="module")
def arrays(run, report):
    with np.load(run.folder / "predictions.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def ids_of_test_split(run):
    """Task to the ids of its test images, by what was saved."""
    splits = json.loads((run.folder / "splits.json").read_text())
    return {
        "skin_lesion": splits["phantom_dermoscopy"]["test"],
        "ct_nodule": splits["phantom_ct"]["test"],
    }


def test_files_are_written(run, report):
    assert json.loads((run.folder / "metrics.json").read_text()) == json.loads(
        json.dumps(report, allow_nan=False)
    )
    assert report["split"] == "test"
    assert report["seed"] == 3


def test_predictions_have_the_keys_and_shapes_that_others_read(
    arrays, ids_of_test_split
):
    classes = {"skin_lesion": 4, "ct_nodule": 3}
    assert set(arrays) == {
        f"{task}.{what}"
        for task in classes
        for what in ("id", "y_true", "probabilities")
    }
    for task, count in classes.items():
        n = len(ids_of_test_split[task])
        assert arrays[f"{task}.id"].shape == (n,)
        assert arrays[f"{task}.y_true"].shape == (n,)
        assert arrays[f"{task}.probabilities"].shape == (3, n, count)
        np.testing.assert_allclose(
            arrays[f"{task}.probabilities"].sum(axis=-1), 1, atol=1e-5
        )


@pytest.mark.parametrize("task", ["skin_lesion", "ct_nodule"])
def test_every_test_image_counts_exactly_once(task, arrays, ids_of_test_split):
    ids = arrays[f"{task}.id"].tolist()
    assert len(set(ids)) == len(ids)
    assert sorted(ids) == sorted(ids_of_test_split[task])


@pytest.mark.parametrize("task", ["skin_lesion", "ct_nodule"])
def test_labels_belong_to_their_images(task, run, arrays):
    pairing = read_sources(run.config)
    source = pairing.sources[pairing.source_of_task(task)]
    label = dict(zip(source.ids, source.targets[task], strict=True))
    expected = [label[image] for image in arrays[f"{task}.id"]]
    assert arrays[f"{task}.y_true"].tolist() == expected


def test_draws_of_partners_differ_and_their_spread_is_reported(arrays, report):
    for task in ("skin_lesion", "ct_nodule"):
        p = arrays[f"{task}.probabilities"]
        assert np.abs(p[0] - p[1]).max() > 0
        assert np.abs(p[1] - p[2]).max() > 0
        assert report["tasks"][task]["draws"] == 3
        accuracies = [
            accuracy_score(arrays[f"{task}.y_true"], draw.argmax(axis=1)) for draw in p
        ]
        metric = report["tasks"][task]["metrics"]["accuracy"]
        assert metric["value"] == pytest.approx(np.mean(accuracies))
        assert metric["spread"] == pytest.approx(np.std(accuracies))


@pytest.mark.parametrize("task", ["skin_lesion", "ct_nodule"])
def test_metrics_are_those_of_the_predictions(task, arrays, report):
    y_true, p = arrays[f"{task}.y_true"], arrays[f"{task}.probabilities"]
    result = report["tasks"][task]
    assert set(result["metrics"]) == set(METRICS)
    for name, score in (("precision", precision_score), ("recall", recall_score)):
        values = [
            score(
                y_true,
                draw.argmax(axis=1),
                labels=np.unique(y_true),
                average="macro",
                zero_division=0,
            )
            for draw in p
        ]
        assert result["metrics"][name]["value"] == pytest.approx(np.mean(values))
    assert np.sum(result["confusion"]) == len(y_true) == result["images"]


def test_model_saw_the_image_that_the_id_names(run, arrays):
    # Whichever partner it met, a prediction is one that the model makes of the image.
    model = run.load_model()
    pairing = read_sources(run.config)
    skin, ct = (
        pairing.sources[pairing.source_of_modality(name)]
        for name in ("dermoscopy", "ct")
    )
    rows = {image: row for row, image in enumerate(skin.ids)}
    partners = {image: row for row, image in enumerate(ct.ids)}
    wanted = [rows[image] for image in arrays["skin_lesion.id"]]
    others = [partners[image] for image in arrays["ct_nodule.id"]]
    for position in (0, 3):
        images = {
            "dermoscopy": np.repeat(
                skin.modalities["dermoscopy"][[wanted[position]]], len(others), axis=0
            ),
            "ct": ct.modalities["ct"][others],
        }
        possible = model.predict(images, verbose=0)["skin_lesion"]
        for draw in arrays["skin_lesion.probabilities"][:, position]:
            assert np.abs(possible - draw).max(axis=1).min() < 1e-5


def test_the_same_again(run, arrays):
    evaluate(run, verbose=0)
    with np.load(run.folder / "predictions.npz") as again:
        for key, value in arrays.items():
            np.testing.assert_array_equal(again[key], value)


def test_baselines_are_scored_on_the_same_images(report):
    assert set(report["baselines"]) == {"majority_class", "nearest_neighbour"}
    for tasks in report["baselines"].values():
        for task, result in tasks.items():
            assert result["images"] == report["tasks"][task]["images"]
            assert result["metrics"]["accuracy"]["value"] <= 1
    majority = report["baselines"]["majority_class"]["ct_nodule"]["metrics"]
    assert majority["balanced_accuracy"]["value"] == pytest.approx(1 / 3)


def test_without_a_modality_its_images_are_blank(run, report):
    assert {name: list(tasks) for name, tasks in report["missing"].items()} == {
        "dermoscopy": ["ct_nodule"],
        "ct": ["skin_lesion"],
    }
    config = run.config
    test = read_splits(run, read_sources(config)).take(read_sources(config), "test")
    source = test.sources[test.source_of_task("skin_lesion")]
    probabilities = predict(
        run.load_model(), {"dermoscopy": source.modalities["dermoscopy"]}
    )["skin_lesion"]
    found = report["missing"]["ct"]["skin_lesion"]
    right = probabilities.argmax(axis=1) == source.targets["skin_lesion"]
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(right.mean())
    assert found["draws"] == 1


def test_without_a_modality_that_is_read_from_disk(make_run, tmp_path):
    rng = np.random.default_rng(0)
    sources = []
    for modality in ("skin", "cell"):
        for label in ("a", "b"):
            folder = tmp_path / modality / label
            folder.mkdir(parents=True)
            for number in range(20):
                pixels = rng.integers(1, 256, (16, 16, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
        options = {"modality": modality, "task": f"{modality}_type"}
        sources.append(
            {
                "reader": "image_folder",
                "path": str(tmp_path / modality),
                "options": options,
            }
        )
    run = make_run(*sources)
    in_memory = evaluate(run, missing=True, verbose=0)
    data = run.config.data.model_copy(update={"memory_limit_gib": 0})
    config = run.config.model_copy(update={"data": data})
    assert evaluate(replace(run, config=config), missing=True, verbose=0) == in_memory
    assert list(in_memory["missing"]) == ["skin", "cell"]


def test_one_source_needs_one_draw(make_run):
    run = make_run(
        {
            "reader": "phantoms",
            "options": {"n": 120, "image_size": 16, "modalities": ["ct"]},
        },
        partner_draws=3,
    )
    report = evaluate(run, verbose=0)
    assert list(report["tasks"]) == ["ct_nodule"]
    assert "missing" not in report
    assert report["tasks"]["ct_nodule"]["draws"] == 1
    assert "baselines" not in report
    with np.load(run.folder / "predictions.npz") as file:
        assert file["ct_nodule.probabilities"].shape[0] == 1


def test_metrics_survive_a_test_split_of_one_class(run):
    pairing = read_sources(run.config)
    skin, ct = pairing.sources
    few = pair([skin.take(np.flatnonzero(skin.targets["skin_lesion"] == 2)[:4]), ct])
    predictions = predict_test(run.load_model(), few, (16, 16), draws=2)
    names = run.class_names["skin_lesion"]
    result = summarize(predictions["skin_lesion"], names, bootstrap=20)
    assert result["metrics"]["auc"] is None
    assert names[2] in result["notes"][0]


def test_unknown_labels_are_left_out(run):
    pairing = read_sources(run.config)
    skin, ct = (source.take(np.arange(8)) for source in pairing.sources)
    labels = np.array([0, 1, -1, 2, -1, 3, 0, 1])
    partly = Source(
        name=skin.name,
        modalities=skin.modalities,
        targets={"skin_lesion": labels},
        class_names=skin.class_names,
    )
    predictions = predict_test(run.load_model(), pair([partly, ct]), (16, 16), draws=2)
    skin_lesion = predictions["skin_lesion"]
    assert skin_lesion.y_true.tolist() == [0, 1, 2, 3, 0, 1]
    assert skin_lesion.ids.tolist() == partly.ids[labels >= 0].tolist()
    assert skin_lesion.probabilities.shape == (2, 6, 4)
    assert len(predictions["ct_nodule"].y_true) == 8


def test_folder_that_lacks_its_model_says_so(run, tmp_path):
    other = tmp_path / "run"
    other.mkdir()
    for name in ("config.yaml", "splits.json"):
        (other / name).write_bytes((run.folder / name).read_bytes())
    with pytest.raises(ValueError, match=r"no model\.keras.*Train again"):
        evaluate(Run.open(other), verbose=0)


def toy(name, levels, labels, classes=("dark", "bright", "other")):
    images = np.zeros((len(levels), 8, 8, 3), np.uint8)
    images += np.asarray(levels, np.uint8)[:, None, None, None]
    return Source(
        name=name,
        modalities={"skin": images},
        targets={"label": np.asarray(labels)},
        class_names={"label": classes},
    )


def test_baselines_by_hand():
    train = pair([toy("toy", [10, 20, 30, 200, 210, 90], [0, 0, 0, 1, 1, -1])])
    test = pair([toy("toy", [15, 100, 205], [0, 0, 1])])
    results = baseline_predictions(train, test, (8, 8))
    np.testing.assert_array_equal(
        results["majority_class"]["label"], [[1, 0, 0], [1, 0, 0], [1, 0, 0]]
    )
    # 100 is nearest to 90, whose label is unknown; of the others 30 is nearer than 200.
    np.testing.assert_array_equal(
        results["nearest_neighbour"]["label"], [[1, 0, 0], [1, 0, 0], [0, 1, 0]]
    )
