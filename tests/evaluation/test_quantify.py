"""The uncertainty of a run: what `drifa uncertainty` measures, writes and draws."""

import json

import keras
import numpy as np
import pytest

from drifa_keras import uncertainty
from drifa_keras.evaluation import evaluate_uncertainty, predict_passes, predict_test
from drifa_keras.report.uncertainty import uncertainty_figures
from drifa_keras.runs import read_sources, read_splits
from drifa_keras.training.train import build_model

PHANTOMS = {
    "reader": "phantoms",
    "options": {"n": 120, "image_size": 16, "modalities": ["dermoscopy", "ct"]},
}


@pytest.fixture(scope="module")
def run(make_run):
    arguments = {"dropout_after": [0], "dropout": 0.5, "mifa": False}
    return make_run(PHANTOMS, arguments=arguments)


@pytest.fixture(scope="module")
def report(run):
    return evaluate_uncertainty(run, passes=3, verbose=0)


@pytest.fixture(scope="module")
def arrays(run, report):
    with np.load(run.folder / "uncertainty.npz") as file:
        return dict(file)


def test_report_is_written(run, report):
    assert json.loads((run.folder / "uncertainty.json").read_text()) == report
    assert report["split"] == "test"
    for result in report["tasks"].values():
        assert result["members"] == 1 and result["passes"] == 3
        assert [row["uq"] for row in result["table"]] == [False, False, True, True]


def test_plain_predictions_are_those_of_the_evaluation(run):
    pairing = read_sources(run.config)
    test = read_splits(run, pairing).take(pairing, "test")
    model = run.load_model()
    passes = predict_passes(model, test, (16, 16), passes=2, seed=3, verbose=0)
    plain = predict_test(model, test, (16, 16), draws=1, seed=3)
    for task, result in plain.items():
        np.testing.assert_array_equal(passes[task].ids, result.ids)
        np.testing.assert_array_equal(passes[task].y_true, result.y_true)
        np.testing.assert_allclose(passes[task].plain, result.probabilities, atol=1e-5)
        assert passes[task].passes.shape == (2, *result.probabilities.shape[1:])
        assert np.ptp(passes[task].passes, axis=0).max() > 1e-3


def test_arrays_agree_with_the_report(report, arrays):
    for task, result in report["tasks"].items():
        mean, y_true = arrays[f"{task}.mean"], arrays[f"{task}.y_true"]
        accuracy = (mean.argmax(axis=1) == y_true).mean()
        assert result["table"][2]["accuracy"] == pytest.approx(accuracy)
        entropy = -(mean * np.log(mean)).sum(axis=1)
        np.testing.assert_allclose(
            arrays[f"{task}.predictive_entropy"], entropy, rtol=1e-4
        )
        surest = arrays[f"{task}.id"][np.argmin(entropy)]
        assert result["most_certain"][0] == surest


def test_images_that_are_shown(run, report, arrays):
    sources = {s.name: s for s in read_sources(run.config).sources}
    source = sources["phantom_ct"]
    (task,) = source.targets
    shown = arrays[f"{task}.least_certain.ct"]
    rows = [
        source.ids.tolist().index(i) for i in report["tasks"][task]["least_certain"]
    ]
    np.testing.assert_array_equal(shown, source.modalities["ct"][rows])


def test_figures(report, arrays):
    drawn = uncertainty_figures(report, arrays)
    names = ("reliability", "risk_coverage", "entropy", "most_certain", "least_certain")
    assert set(drawn) == {f"{n}_{task}" for n in names for task in report["tasks"]}
    texts = [
        text.get_text()
        for text in drawn["least_certain_ct_nodule"].findobj(
            lambda artist: hasattr(artist, "get_text")
        )
    ]
    assert any("nats" in text for text in texts)


def test_an_ensemble(run, report, make_run):
    pairing = read_sources(run.config)
    members = []
    for seed in range(2):
        keras.utils.set_random_seed(seed)
        members.append(build_model(run.config, pairing))
    test = read_splits(run, pairing).take(pairing, "test")
    ensemble = uncertainty.Ensemble(members)
    found = predict_passes(ensemble, test, (16, 16), passes=2, verbose=0)
    for of_task in found.values():
        assert of_task.plain.shape[0] == 2
        assert of_task.passes.shape[0] == 4
        assert np.abs(of_task.plain[0] - of_task.plain[1]).max() > 1e-3


def test_no_dropout_is_an_error(make_run):
    run = make_run(PHANTOMS, arguments={"dropout": 0.0})
    with pytest.raises(ValueError, match="no active dropout"):
        evaluate_uncertainty(run, passes=2, verbose=0)
