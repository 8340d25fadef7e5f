"""Monte-Carlo dropout where every pixel is classified."""

import json

import keras
import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from drifa_keras import uncertainty
from drifa_keras.data import pair, phantoms
from drifa_keras.evaluation import map_uncertainty
from drifa_keras.evaluation.map_uncertainty import (
    predict_map_passes,
    summarize_map_uncertainty,
)
from drifa_keras.models import DRIFASegNet


@pytest.fixture(scope="module")
def measured():
    """Pairing, network, and what is found of them in batches of 7."""
    keras.utils.set_random_seed(0)
    pairing = pair(phantoms(20, image_size=16, aligned=True, segmentation=True))
    model = DRIFASegNet(
        pairing.shapes((16, 16)),
        pairing.tasks,
        filters=(4, 8),
        convolutions=(1, 1),
        dropout=0.4,
    )
    found = predict_map_passes(model, pairing, (16, 16), passes=4, batch_size=7)
    return pairing, model, found["lesion"]


def test_sums_over_batches_are_those_of_the_whole(measured):
    pairing, model, found = measured
    (source,) = pairing.sources
    plain = model.predict(source.modalities, verbose=0)["lesion"]
    np.testing.assert_array_equal(found.plain.y_pred, plain.argmax(-1))
    np.testing.assert_array_equal(found.plain.y_true, source.targets["lesion"])
    assert found.plain.ids.tolist() == source.ids.tolist()
    labels, p = source.targets["lesion"].ravel(), plain.reshape(-1, 4)
    summary = summarize_map_uncertainty(
        found, pairing.class_names["lesion"], passes=4, bootstrap=5
    )
    off, on = summary["table"]
    assert (off["uq"], on["uq"]) == (False, True)
    expected = {
        "ece": uncertainty.expected_calibration_error(labels, p),
        "nll": uncertainty.negative_log_likelihood(labels, p),
        "brier": uncertainty.brier_score(labels, p),
    }
    for name, value in expected.items():
        assert off[name] == pytest.approx(value, rel=1e-5), name
        assert on[name] != off[name]
    diagram = uncertainty.reliability_diagram(labels, p)
    for name, column in diagram._asdict().items():
        saved = [np.nan if v is None else v for v in off["reliability"][name]]
        np.testing.assert_allclose(saved, column, rtol=1e-5)
    json.dumps(summary)


def test_entropy_of_slices_and_of_wrong_pixels(measured):
    pairing, model, found = measured
    (source,) = pairing.sources
    batches = [slice(0, 7), slice(7, 14), slice(14, 20)]
    drawn = [
        uncertainty.predict(
            model,
            {name: images[rows] for name, images in source.modalities.items()},
            4,
            seed=number,
        )["lesion"]
        for number, rows in enumerate(batches)
    ]
    entropy = np.concatenate([one.predictive_entropy for one in drawn])
    guess = np.concatenate([one.mean for one in drawn]).argmax(-1)
    np.testing.assert_allclose(found.entropy, entropy.mean(axis=(1, 2)), rtol=1e-4)
    np.testing.assert_array_equal(found.mean.y_pred, guess)
    labels = source.targets["lesion"]
    summary = summarize_map_uncertainty(
        found, pairing.class_names["lesion"], passes=4, bootstrap=5
    )
    auroc = roc_auc_score((guess != labels).ravel(), entropy.ravel())
    assert summary["auroc"] == pytest.approx(auroc, abs=0.01)
    true, answer = labels > 0, guess > 0
    both = 2 * (true & answer).sum(axis=(1, 2))
    dice = both / (true.sum(axis=(1, 2)) + answer.sum(axis=(1, 2)))
    expected = spearmanr(found.entropy, dice).statistic
    assert summary["slices"] == pytest.approx(expected)
    assert summary["most_certain"][0] == source.ids[found.entropy.argmin()]
    assert summary["least_certain"][0] == source.ids[found.entropy.argmax()]


def test_unknown_pixels_take_no_part():
    generator = np.random.default_rng(0)
    labels = generator.integers(-1, 3, (2, 6, 6))
    labels[1] = -1  # nothing known at all
    p = generator.dirichlet(np.ones(3), (2, 6, 6))
    entropy = -(p * np.log(p)).sum(-1)
    about = (np.array(["a", "b"]), np.array(["a", "b"]), labels)
    regions = {"one": (1,), "two": (2,)}
    found = map_uncertainty._together(
        [
            map_uncertainty._lot(
                tuple(part[rows] for part in about),
                (p[rows], p[rows]),
                entropy[rows],
                regions,
            )
            for rows in (slice(0, 1), slice(1, 2))
        ]
    )
    known = labels[0] >= 0
    assert found.scores[0]["count"] == known.sum() == found.counts.sum()
    assert found.entropy[0] == pytest.approx(entropy[0][known].mean())
    summary = summarize_map_uncertainty(found, ("none", "one", "two"), 3, bootstrap=2)
    nll = uncertainty.negative_log_likelihood(labels[0][known], p[0][known])
    assert summary["table"][0]["nll"] == pytest.approx(nll)
    assert summary["images"] == 1
