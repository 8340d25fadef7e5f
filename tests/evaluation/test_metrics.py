"""Metrics against scikit-learn and against counts by hand."""

import numpy as np
import pytest
from sklearn import metrics as sk

from drifa_keras.evaluation import METRICS, classification_metrics


def one_hot(labels, classes):
    return np.eye(classes)[np.asarray(labels)]


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_agrees_with_scikit_learn(classes):
    generator = np.random.default_rng(classes)
    y_true = generator.integers(classes, size=60)
    p = generator.dirichlet(np.ones(classes), size=60)
    y_pred = p.argmax(axis=1)
    scores = classification_metrics(y_true, p)
    assert tuple(scores) == METRICS
    macro = {"average": "macro", "zero_division": 0}
    expected = {
        "accuracy": sk.accuracy_score(y_true, y_pred),
        "balanced_accuracy": sk.balanced_accuracy_score(y_true, y_pred),
        "precision": sk.precision_score(y_true, y_pred, **macro),
        "recall": sk.recall_score(y_true, y_pred, **macro),
        "f1": sk.f1_score(y_true, y_pred, **macro),
        "auc": sk.roc_auc_score(y_true, p[:, 1])
        if classes == 2
        else sk.roc_auc_score(y_true, p, multi_class="ovr", average="macro"),
        "sensitivity": sk.recall_score(y_true, y_pred, **macro),
        "specificity": np.mean(
            [
                sk.recall_score(y_true == k, y_pred == k, pos_label=False)
                for k in range(classes)
            ]
        ),
    }
    assert scores == pytest.approx(expected)
    assert all(type(value) is float for value in scores.values())


def test_by_hand_and_the_right_way_round():
    # Class 0: 3 true, 4 predicted, 3 right. Class 1: 3 true, 2 predicted, 2 right.
    y_true = np.array([0, 0, 0, 1, 1, 1])
    y_pred = np.array([0, 0, 0, 0, 1, 1])
    scores = classification_metrics(y_true, one_hot(y_pred, 2))
    precision, recall = (3 / 4 + 2 / 2) / 2, (3 / 3 + 2 / 3) / 2
    assert precision != recall
    assert scores["precision"] == pytest.approx(precision)
    assert scores["recall"] == scores["sensitivity"] == pytest.approx(recall)
    assert scores["accuracy"] == pytest.approx(5 / 6)
    assert scores["f1"] == pytest.approx((6 / 7 + 4 / 5) / 2)
    assert scores["specificity"] == pytest.approx((2 / 3 + 3 / 3) / 2)


def test_auc_by_hand():
    # Of the four pairs of a positive with a negative, three are in order.
    p = np.array([0.1, 0.6, 0.5, 0.9])
    scores = classification_metrics([0, 0, 1, 1], np.stack([1 - p, p], axis=1))
    assert scores["auc"] == pytest.approx(3 / 4)


def test_perfect_and_hopeless():
    y_true = np.array([0, 1, 2, 0, 1, 2])
    assert set(classification_metrics(y_true, one_hot(y_true, 3)).values()) == {1.0}
    wrong = classification_metrics(y_true, one_hot((y_true + 1) % 3, 3))
    assert wrong["accuracy"] == wrong["precision"] == wrong["f1"] == 0.0


def test_class_that_does_not_occur_is_left_out_of_the_means():
    # Class 2 has no image; one of class 1 is taken for it.
    y_true = np.array([0, 0, 1, 1])
    scores = classification_metrics(y_true, one_hot([0, 0, 1, 2], 3))
    assert scores["recall"] == scores["balanced_accuracy"] == pytest.approx(3 / 4)
    assert scores["precision"] == pytest.approx(1.0)
    assert scores["auc"] is not None


def test_one_class_only():
    scores = classification_metrics([1, 1, 1], one_hot([1, 1, 0], 2))
    assert scores["auc"] is None
    assert scores["specificity"] is None
    assert scores["accuracy"] == scores["recall"] == pytest.approx(2 / 3)
    assert scores["precision"] == 1.0


@pytest.mark.parametrize(
    ("y_true", "probabilities", "message"),
    [
        ([0, 1], np.ones((3, 2)), r"equal length.*\(2,\).*\(3, 2\)"),
        ([[0, 1]], np.ones((1, 2)), r"\(samples,\)"),
        ([0, 1], np.ones(2), r"\(samples, classes\)"),
        ([], np.ones((0, 2)), "no sample"),
        ([0, 2], np.ones((2, 2)), r"0\.\.1.*0\.\.2"),
        ([0, -1], np.ones((2, 2)), r"0\.\.1.*unknown labels"),
    ],
)
def test_bad_input(y_true, probabilities, message):
    with pytest.raises(ValueError, match=message):
        classification_metrics(np.asarray(y_true, int), probabilities)
