"""A run of segmentation, from training to the report, on phantoms."""

import json

import numpy as np
import pytest

from drifa_keras.configs import load_config
from drifa_keras.evaluation import (
    evaluate,
    evaluate_uncertainty,
    explain_run,
)
from drifa_keras.report.explain import explain_figures
from drifa_keras.report.html import write_report
from drifa_keras.report.uncertainty import uncertainty_figures
from drifa_keras.training import train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = load_config(
        "phantoms_segmentation",
        {
            "data.image_size": 16,
            "data.sources": [
                {
                    "reader": "phantoms",
                    "options": {
                        "n": 150,
                        "image_size": 16,
                        "aligned": True,
                        "segmentation": True,
                    },
                }
            ],
            "model.arguments": {"filters": [4, 8], "convolutions": [1, 1]},
            "training.epochs": 2,
            "evaluation.bootstrap": 10,
        },
    )
    return train(config, tmp_path_factory.mktemp("runs") / "seg", verbose=0)


@pytest.fixture(scope="module")
def metrics(run):
    return evaluate(run, baselines=True, missing=True, verbose=0)


def test_scores(run, metrics):
    result = metrics["tasks"]["lesion"]
    assert set(result["regions"]) == {"lesion", "disc", "irregular", "ring"}
    with np.load(run.folder / "predictions.npz") as saved:
        y_true, y_pred = saved["lesion.y_true"], saved["lesion.y_pred"]
        groups = saved["lesion.group"]
    assert y_true.shape == y_pred.shape == (result["images"], 16, 16)
    assert result["metrics"]["accuracy"]["value"] == (y_true == y_pred).mean()
    dice = []
    for case in np.unique(groups):
        true, guess = (maps[groups == case] > 0 for maps in (y_true, y_pred))
        sizes = true.sum() + guess.sum()
        dice.append(2 * (true & guess).sum() / sizes if sizes else 1)
    assert result["metrics"]["dice_lesion"]["value"] == pytest.approx(np.mean(dice))


def test_baselines_and_missing_modalities(run, metrics):
    for key, names in (
        ("baselines", {"majority_class", "nearest_neighbour"}),
        ("missing", {"ct", "dermoscopy"}),
    ):
        assert set(metrics[key]) == names
        for of in metrics[key].values():
            assert 0 <= of["lesion"]["metrics"]["dice"]["value"] <= 1
    # A lesion covers no place in most images: the most frequent label is background.
    majority = metrics["baselines"]["majority_class"]["lesion"]
    assert majority["metrics"]["dice_disc"]["value"] < 0.9
    nearest = metrics["baselines"]["nearest_neighbour"]["lesion"]["metrics"]
    assert nearest["dice_lesion"]["value"] > 0.5  # phantoms look alike


def test_explained(run, metrics):
    report = explain_run(run, cases=2, verbose=0)
    cases = report["tasks"]["lesion"]["cases"]
    assert [case["kind"] for case in cases] == ["best"] * 2 + ["worst"] * 2
    assert cases[0]["dice"] >= cases[1]["dice"] >= cases[2]["dice"]
    with np.load(run.folder / "explain.npz") as saved:
        arrays = dict(saved)
    true, guess = arrays["lesion.y_true"] > 0, arrays["lesion.y_pred"] > 0
    both = 2 * (true & guess).sum(axis=(1, 2))
    dice = both / (true.sum(axis=(1, 2)) + guess.sum(axis=(1, 2)))
    np.testing.assert_allclose([case["dice"] for case in cases], dice)
    assert arrays["lesion.map.ct"].shape == (4, 16, 16)
    drawn = explain_figures(report, arrays)
    assert set(drawn) == {
        f"{name}_{kind}_lesion"
        for name in ("maps", "grad_cam")
        for kind in ("best", "worst")
    }


def test_doubted_and_reported(run, metrics):
    report = evaluate_uncertainty(run, passes=3, verbose=0)
    summary = report["tasks"]["lesion"]
    off, on = summary["table"]
    plain = metrics["tasks"]["lesion"]["metrics"]
    assert off["metrics"]["dice"]["value"] == pytest.approx(plain["dice"]["value"])
    assert on["nll"] != off["nll"]
    with np.load(run.folder / "uncertainty.npz") as saved:
        arrays = dict(saved)
    assert arrays["lesion.least_certain.entropy"].shape[1:] == (16, 16)
    drawn = uncertainty_figures(report, arrays)
    assert set(drawn) == {
        f"{name}_lesion" for name in ("reliability", "most_certain", "least_certain")
    }
    explain_run(run, cases=1, verbose=0)
    page = write_report(run).read_text(encoding="utf-8")
    for text in ("Dice of slices, ring", "with dropout (3 passes)", "test pixels"):
        assert text in page
    json.dumps(report)
