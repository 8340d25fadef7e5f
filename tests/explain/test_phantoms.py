"""Grad-CAM points at lesions that are known, and only after training."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import grad_cam_phantoms
from drifa_keras.training import train


def test_score():
    """Of four maps two point into the mask, one close to it, one nowhere."""
    masks = np.zeros((4, 50, 50), bool)
    masks[:, 20:30, 20:30] = True
    maps = np.zeros((4, 50, 50), "float32")
    maps[0] = masks[0]
    maps[1, 25, 25], maps[1, 40, 40] = 3, 1
    maps[2, 30, 25] = 1
    found = grad_cam_phantoms.score(maps, masks)
    assert (found["hits"], found["near"]) == (0.5, 0.75)
    assert found["energy"] == pytest.approx((1 + 0.75) / 4)
    place = (np.arange(50) - 24.5) / 50
    blob = np.exp(-(place[:, None] ** 2 + place**2) / 0.125)
    share = blob[20:30, 20:30].sum() / blob.sum()
    assert found["of_blob"] == pytest.approx(found["energy"] / share)


@pytest.mark.large
def test_a_trained_network_points_at_lesions(tmp_path):
    arguments = SimpleNamespace(
        seed=0, images=1600, image_size=64, lesion_size=0.5, epochs=8, filters=[16, 32]
    )
    run = train(grad_cam_phantoms.configuration(arguments), tmp_path / "run", verbose=0)
    rows = grad_cam_phantoms.measure(run, randomisations=5)
    rows = {row["task"]: row for row in rows if row["method"] == "grad_cam"}
    assert set(rows) == {"skin_lesion", "ct_nodule"}
    for row in rows.values():
        assert row["accuracy"] > 0.95
        assert row["trained"]["hits"] > 0.85 > 10 * row["chance"]
        assert row["trained"]["near"] > 0.9
        assert row["trained"]["of_blob"] > 2
        assert np.mean([drawn["hits"] for drawn in row["randomised"]]) < 0.5
        assert np.mean([drawn["of_blob"] for drawn in row["randomised"]]) < 1.2
