"""Scores of label maps, against loops and scikit-learn."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from drifa_keras.evaluation.segmentation import (
    joined,
    map_predictions,
    summarize_maps,
)

CLASSES = ("background", "core", "oedema", "enhancing")
REGIONS = {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}


def drawn(slices=12, cases=4, size=8, seed=0, unknown=0.1):
    """Labels in blobs, and probabilities that lean towards them."""
    generator = np.random.default_rng(seed)
    y = generator.integers(0, 4, (slices, size // 2, size // 2))
    y = y.repeat(2, axis=1).repeat(2, axis=2) * (generator.random((slices, 1, 1)) > 0.2)
    z = 1.5 * np.eye(4)[y] + generator.standard_normal((*y.shape, 4))
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    y = np.where(generator.random(y.shape) < unknown, -1, y)
    groups = np.sort(generator.integers(0, cases, slices)).astype(str)
    ids = np.array([f"{group}/{i}" for i, group in enumerate(groups)])
    return ids, groups, y, p.astype("float32")


def dice(a, b):
    return 1.0 if a.sum() + b.sum() == 0 else 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize("seed", range(4))
def test_scores_against_loops(seed):
    ids, groups, y, p = drawn(seed=seed)
    found = summarize_maps(map_predictions(ids, groups, y, p, REGIONS), CLASSES, 20)
    metrics = {name: metric["value"] for name, metric in found["metrics"].items()}
    guess, known = p.argmax(-1), y >= 0
    by_region = {}
    for name, classes in REGIONS.items():
        true, answer = np.isin(y, classes), np.isin(guess, classes) & known
        cases = [
            dice(true[groups == g], answer[groups == g]) for g in np.unique(groups)
        ]
        shown = [i for i in range(len(y)) if true[i].any() or answer[i].any()]
        slices = [dice(true[i], answer[i]) for i in shown]
        by_region[name] = (
            np.mean(cases),
            np.mean(slices),
            roc_auc_score(true[known], p[..., list(classes)].sum(-1)[known]),
            (true & answer).sum() / true.sum(),
            1 - (answer & ~true).sum() / (known & ~true).sum(),
        )
        assert metrics[f"dice_{name}"] == pytest.approx(np.mean(cases))
        assert metrics[f"slice_dice_{name}"] == pytest.approx(np.mean(slices))
        for g, case in zip(np.unique(groups), cases, strict=True):
            assert found["cases"][g][name] == pytest.approx(case)
    means = np.mean(list(by_region.values()), axis=0)
    names = ("dice", "slice_dice", "auc", "sensitivity", "specificity")
    for name, mean in zip(names, means, strict=True):
        assert metrics[name] == pytest.approx(mean, abs=2e-3 if name == "auc" else 1e-9)
    assert metrics["accuracy"] == pytest.approx((guess == y)[known].mean())
    confusion = np.zeros((4, 4), int)
    for true, answer in zip(y[known], guess[known], strict=True):
        confusion[true, answer] += 1
    assert found["confusion"] == confusion.tolist()
    assert found["images"] == len(y) and found["groups"] == len(np.unique(groups))
    json.dumps(found)


def test_auc_of_sure_answers():
    """Probabilities so near 0 and 1 that even bins of them would tie."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, 2, (1, 40, 40))
    z = 6 * (2 * y - 1) + 4 * generator.standard_normal(y.shape)
    p = 1 / (1 + np.exp(-z))
    p = np.stack([1 - p, p], -1)
    predictions = map_predictions(["a"], ["a"], y, p, {"lesion": (1,)})
    found = summarize_maps(predictions, ("background", "lesion"), 0)
    exact = roc_auc_score(y.ravel(), p[..., 1].ravel())
    assert found["metrics"]["auc"]["value"] == pytest.approx(exact, abs=1e-3)


def test_intervals_are_of_cases():
    ids, groups, y, p = drawn(slices=60, cases=20, unknown=0)
    predictions = map_predictions(ids, groups, y, p, REGIONS)
    found = summarize_maps(predictions, CLASSES, 400)
    cases = np.array([list(case.values()) for case in found["cases"].values()])
    for number, name in enumerate(REGIONS):
        metric = found["metrics"][f"dice_{name}"]
        low, high = metric["interval"]
        error = cases[:, number].std() / np.sqrt(len(cases))
        assert (high - low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.2)
        assert low < metric["value"] < high
    again = summarize_maps(predictions, CLASSES, 400)
    assert again == found


def test_lots_of_slices_join():
    ids, groups, y, p = drawn()
    whole = map_predictions(ids, groups, y, p, REGIONS)
    parts = [
        map_predictions(ids[rows], groups[rows], y[rows], p[rows], REGIONS)
        for rows in (slice(0, 5), slice(5, None))
    ]
    assert summarize_maps(joined(parts), CLASSES, 5) == summarize_maps(
        whole, CLASSES, 5
    )


def test_a_region_that_is_nowhere():
    y = np.zeros((2, 4, 4), int)
    p = np.tile([0.9, 0.1], (2, 4, 4, 1))
    predictions = map_predictions(["a", "b"], ["a", "b"], y, p, {"lesion": (1,)})
    found = summarize_maps(predictions, ("background", "lesion"), 10)
    metrics = found["metrics"]
    assert metrics["dice_lesion"]["value"] == 1
    assert metrics["accuracy"]["value"] == 1
    for name in ("slice_dice_lesion", "slice_dice", "auc", "sensitivity"):
        assert metrics[name] is None
    assert metrics["specificity"]["value"] == 1
    assert found["notes"] == ["No test slice has the region lesion."]


def test_no_label_at_all():
    y = np.full((1, 4, 4), -1)
    p = np.full((1, 4, 4, 2), 0.5)
    predictions = map_predictions(["a"], ["a"], y, p, {"lesion": (1,)})
    assert summarize_maps(predictions, ("background", "lesion"))["images"] == 0


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"\(2, 4, 4\) and \(2, 4, 3, 2\)"):
        map_predictions(
            ["a", "b"], ["a", "b"], np.zeros((2, 4, 4)), np.zeros((2, 4, 3, 2)), {}
        )
