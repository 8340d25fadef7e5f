"""The summary of uncertainty: what it reports, and that it adds up."""

import json

import numpy as np
import pytest
from scipy import special
from sklearn import metrics as sk

from drifa_keras.evaluation import PassPredictions, summarize_uncertainty

NAMES = ("benign", "malignant", "other")
ROWS = [(False, False), (False, True), (True, False), (True, True)]  # uq, scaled


def draw(n=400, members=2, passes=6, seed=0):
    """Labels drawn from logits, and predictions from three times these with noise."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 1.5, (n, 3))
    below = special.softmax(logits, axis=1).cumsum(axis=1)[:, :-1]

    def noisy(count):
        noise = generator.normal(0, 0.7, (count, n, 3))
        return special.softmax(3 * (logits + noise), axis=-1).astype("float32")

    return PassPredictions(
        ids=np.array([f"image {i}" for i in range(n)]),
        groups=np.array([f"patient {i // 2}" for i in range(n)]),
        y_true=(generator.random((n, 1)) > below).sum(axis=1),
        plain=noisy(members),
        passes=noisy(members * passes),
    )


def take(predictions, rows):
    return PassPredictions(
        predictions.ids[rows],
        predictions.groups[rows],
        predictions.y_true[rows],
        predictions.plain[:, rows],
        predictions.passes[:, rows],
    )


@pytest.fixture(scope="module")
def test():
    return draw(seed=1)


@pytest.fixture(scope="module")
def summary(test):
    return summarize_uncertainty(test, draw(seed=2), NAMES)


def test_is_json(summary):
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["images"] == 400 and summary["groups"] == 200
    assert summary["members"] == 2 and summary["passes"] == 12
    assert summary["classes"] == list(NAMES)
    assert summary["notes"] == []


def test_rows_of_the_table(test, summary):
    rows = summary["table"]
    assert [(row["uq"], row["temperature"] != 1) for row in rows] == ROWS
    y_true = test.y_true
    for row, members in [(rows[0], test.plain), (rows[2], [test.passes.mean(axis=0)])]:
        scores = []
        for p in members:
            y_pred = p.argmax(axis=1)
            macro = {"average": "macro", "zero_division": 0}
            scores.append(
                {
                    "accuracy": sk.accuracy_score(y_true, y_pred),
                    "precision": sk.precision_score(y_true, y_pred, **macro),
                    "recall": sk.recall_score(y_true, y_pred, **macro),
                    "f1": sk.f1_score(y_true, y_pred, **macro),
                    "nll": -np.log(p[np.arange(400), y_true]).mean(),
                    "brier": sk.brier_score_loss(y_true, p, scale_by_half=False),
                }
            )
        for name in scores[0]:
            expected = np.mean([s[name] for s in scores])
            assert row[name] == pytest.approx(expected, abs=1e-6), name


def test_scaling_helps_and_leaves_the_predictions_alone(summary):
    for before, after in [summary["table"][:2], summary["table"][2:]]:
        for name in ("accuracy", "precision", "recall", "f1"):
            assert after[name] == before[name]
        assert after["temperature"] > 1.5
        for name in ("nll", "brier", "ece", "adaptive_ece"):
            assert after[name] < before[name]


def test_ensemble_is_not_worse_than_its_mean_member(summary):
    without, _, with_uq, _ = summary["table"]
    assert with_uq["nll"] < without["nll"]
    assert with_uq["ece"] < without["ece"]


def test_reliability_diagrams(summary):
    for row in summary["table"]:
        diagram = row["reliability"]
        count = np.array(diagram["count"])
        assert count.sum() == (400 if row["uq"] else 800)
        empty = [value is None for value in diagram["accuracy"]]
        assert empty == (count == 0).tolist()
        if row["uq"]:
            gaps = np.abs(
                np.array(diagram["accuracy"], float)
                - np.array(diagram["confidence"], float)
            )
            assert row["ece"] == pytest.approx(np.nansum(gaps * count) / 400)
            assert row["mce"] == pytest.approx(np.nanmax(gaps))


def test_uncertainty_is_larger_where_wrong(test, summary):
    right = test.passes.mean(axis=0).argmax(axis=1) == test.y_true
    for name, measure in summary["measures"].items():
        assert measure["right"] < measure["mean"] < measure["wrong"], name
        share = right.mean()
        mean = share * measure["right"] + (1 - share) * measure["wrong"]
        assert measure["mean"] == pytest.approx(mean)
        assert 0.6 < measure["auroc"] < 1
        assert measure["aurc"] < 1 - share


def test_conformal_and_selective(summary):
    conformal = summary["conformal"]
    assert (conformal["alpha"], conformal["divisions"]) == (0.1, 20)
    for method in ("thr", "aps", "raps"):
        found = conformal["methods"][method]
        assert found["coverage"] == pytest.approx(0.9, abs=0.02)
        assert len(found["class_coverage"]) == 3
        assert 0 <= found["empty"] < 0.1
        assert 1 < found["set_size"] < 3
    assert 0 < summary["selective"]["coverage"] < 1


def test_most_and_least_certain(test, summary):
    p = test.passes.mean(axis=0, dtype="float64")
    entropy = dict(zip(test.ids, -(p * np.log(p)).sum(axis=1), strict=True))
    ranked = sorted(entropy, key=entropy.get)
    assert summary["most_certain"] == ranked[:8]
    assert summary["least_certain"] == ranked[:-9:-1]


def test_without_validation_images_there_is_no_scaling(test):
    summary = summarize_uncertainty(test, take(test, slice(0)), NAMES)
    assert [(row["uq"], row["temperature"]) for row in summary["table"]] == [
        (False, 1.0),
        (True, 1.0),
    ]


def test_few_images():
    summary = summarize_uncertainty(take(draw(), slice(12)), draw(), NAMES)
    assert summary["conformal"] is None
    assert len(summary["notes"]) == 1
    assert "at least 10 calibration samples" in summary["notes"][0]
    json.dumps(summary, allow_nan=False)


def test_all_right():
    predictions = draw()
    right = predictions.passes.mean(axis=0).argmax(axis=1) == predictions.y_true
    summary = summarize_uncertainty(take(predictions, right), draw(), NAMES)
    measure = summary["measures"]["mutual_information"]
    assert measure["wrong"] is measure["auroc"] is None
    assert measure["aurc"] == 0
    json.dumps(summary, allow_nan=False)


def test_no_image():
    nothing = take(draw(), slice(0))
    assert summarize_uncertainty(nothing, draw(), NAMES)["images"] == 0
