"""Intervals by bootstrap, and the summary of one task."""

import json

import numpy as np
import pytest

from drifa_keras.evaluation import TaskPredictions, classification_metrics, summarize
from drifa_keras.evaluation import bootstrap as bootstrap_module


def noisy(n=120, classes=3, draws=1, right=0.8, seed=0):
    """Labels and predictions that are right about so often."""
    generator = np.random.default_rng(seed)
    y_true = np.arange(n) % classes
    probabilities = []
    for _ in range(draws):
        y_pred = np.where(
            generator.random(n) < right, y_true, generator.integers(classes, size=n)
        )
        p = np.eye(classes)[y_pred] + 0.3 * generator.random((n, classes))
        probabilities.append(p / p.sum(axis=1, keepdims=True))
    return y_true, np.stack(probabilities)


def predictions(y_true, probabilities, groups=None):
    ids = np.array([f"image-{i}" for i in range(len(y_true))])
    return TaskPredictions(
        ids=ids,
        groups=ids if groups is None else np.asarray(groups),
        y_true=np.asarray(y_true),
        probabilities=np.asarray(probabilities, dtype=float),
    )


NAMES = ("a", "b", "c")


def test_interval_holds_the_value_and_has_the_width_it_should():
    y_true, p = noisy()
    metrics = summarize(predictions(y_true, p), NAMES, bootstrap=250)["metrics"]
    for metric in metrics.values():
        low, high = metric["interval"]
        assert 0 <= low <= metric["value"] <= high <= 1
    share = metrics["accuracy"]["value"]
    low, high = metrics["accuracy"]["interval"]
    # The normal approximation of a share.
    assert high - low == pytest.approx(
        2 * 1.96 * np.sqrt(share * (1 - share) / 120), rel=0.25
    )


def test_groups_are_drawn_whole():
    # Ten groups of twelve that are right or wrong together are worth ten images.
    y_true = np.arange(120) % 3
    groups = np.repeat(np.arange(10), 12)
    y_pred = np.where(groups < 7, y_true, (y_true + 1) % 3)
    p = np.eye(3)[y_pred][None]
    grouped = summarize(predictions(y_true, p, groups), NAMES, bootstrap=150)
    single = summarize(predictions(y_true, p), NAMES, bootstrap=150)
    assert grouped["groups"] == 10
    assert single["groups"] == 120

    def width(result):
        low, high = result["metrics"]["accuracy"]["interval"]
        return high - low

    assert width(grouped) > 2.5 * width(single)
    # Accuracy over whole groups of one size can only be a multiple of a tenth.
    for bound in grouped["metrics"]["accuracy"]["interval"]:
        assert abs(bound * 10 - round(bound * 10)) < 0.3


def test_every_resample_is_made_of_whole_groups(monkeypatch):
    seen = []

    def spy(y_true, probabilities):
        seen.append(probabilities[:, 0])
        return {"accuracy": 1.0}

    monkeypatch.setattr(bootstrap_module, "classification_metrics", spy)
    groups = np.array(["p", "q", "p", "r", "q", "p"])
    rows = np.arange(6.0)
    bootstrap_module.bootstrap_intervals(
        np.zeros(6, int), np.stack([rows, rows], axis=1)[None], groups, resamples=50
    )
    members = {"p": {0, 2, 5}, "q": {1, 4}, "r": {3}}
    assert len(seen) == 50
    for resample in seen:
        counts = np.bincount(resample.astype(int), minlength=6)
        drawn = 0
        for rows_of_group in members.values():
            times = {counts[row] for row in rows_of_group}
            assert len(times) == 1
            drawn += times.pop()
        assert drawn == 3


def test_intervals_are_reproducible():
    y_true, p = noisy()
    one, same, other = (
        summarize(predictions(y_true, p), NAMES, bootstrap=50, seed=seed)
        for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_no_bootstrap_no_interval():
    y_true, p = noisy()
    metrics = summarize(predictions(y_true, p), NAMES, bootstrap=0)["metrics"]
    assert all(metric["interval"] is None for metric in metrics.values())


def test_value_is_the_mean_over_draws_and_spread_their_deviation():
    y_true, p = noisy(draws=3, right=0.6)
    result = summarize(predictions(y_true, p), NAMES, bootstrap=20)
    per_draw = [classification_metrics(y_true, draw) for draw in p]
    assert result["draws"] == 3
    for name, metric in result["metrics"].items():
        values = [scores[name] for scores in per_draw]
        assert metric["value"] == pytest.approx(np.mean(values))
        assert metric["spread"] == pytest.approx(np.std(values))
    assert result["metrics"]["accuracy"]["spread"] > 0
    alone = summarize(predictions(y_true, p[:1]), NAMES, bootstrap=0)
    assert alone["metrics"]["accuracy"]["spread"] == 0


def test_confusion_has_the_truth_in_rows():
    y_true = np.array([0, 0, 1, 2])
    p = np.eye(3)[[0, 1, 1, 1]][None]
    result = summarize(predictions(y_true, p), NAMES, bootstrap=0)
    assert result["confusion"] == [[1, 1, 0], [0, 1, 0], [0, 1, 0]]
    assert result["images"] == 4
    assert result["classes"] == ["a", "b", "c"]
    assert result["notes"] == []


def test_one_class_gives_none_and_a_note():
    p = np.eye(3)[[1, 1, 0, 1]][None]
    result = summarize(predictions([1, 1, 1, 1], p), NAMES, bootstrap=20)
    assert result["metrics"]["auc"] is None
    assert result["metrics"]["specificity"] is None
    assert result["metrics"]["accuracy"]["value"] == 0.75
    assert len(result["notes"]) == 1
    assert "'b'" in result["notes"][0]
    assert "AUC" in result["notes"][0]
    json.dumps(result, allow_nan=False)


def test_missing_class_gives_a_note_that_names_it():
    p = np.eye(3)[[0, 1, 0, 1]][None]
    result = summarize(predictions([0, 1, 0, 1], p), NAMES, bootstrap=20)
    assert result["metrics"]["auc"]["value"] == 1
    assert [("c" in note and "leave them out" in note) for note in result["notes"]] == [
        True
    ]


def test_resamples_that_lost_a_class_do_not_crash():
    # Two groups, each of one class: many a resample has one class only.
    p = np.eye(2)[[0, 0, 1, 1]][None]
    result = summarize(
        predictions([0, 0, 1, 1], p, ["p", "p", "q", "q"]), ("a", "b"), bootstrap=50
    )
    assert result["metrics"]["auc"]["interval"] == (1.0, 1.0)


def test_no_labelled_image_gives_a_note():
    result = summarize(predictions([], np.zeros((1, 0, 3))), NAMES)
    assert result["images"] == 0
    assert result["notes"]
