"""Features in front of the heads, and the plane that t-SNE puts them in."""

import keras
import numpy as np
import pytest

from drifa_keras import DRIFANet
from drifa_keras.explain import embedding, tsne
from harness import as_numpy

L = keras.layers


@pytest.mark.parametrize("build", ["flat", "nested", "operations"])
def test_features_by_hand(build, networks, images):
    model = networks[build]
    found = embedding(model, images)
    wanted = model.oracle.features(images)
    assert set(found) == {"p", "q"}
    for features in found.values():
        assert features.shape == (7, 5) and features.dtype == "float32"
        np.testing.assert_allclose(features, wanted, atol=1e-5)


def test_outputs_in_a_list_go_by_name(networks, images):
    model = networks["lists"]
    found = embedding(model, images, batch_size=3)
    assert set(found) == {"p", "q"}
    np.testing.assert_allclose(found["q"], model.oracle.features(images), atol=1e-5)


def test_drifa_net():
    model = DRIFANet(
        {"ct": (16, 16, 1)},
        {"lesion": 3, "nodule": 2},
        filters=(4,),
        stem="small",
        dropout_after=(0,),
        mfa=False,
        mifa=False,
    )
    x = np.random.default_rng(0).integers(1, 256, (4, 16, 16, 1)).astype("float32")
    before = [as_numpy(v) for v in model.variables]
    found = embedding(model, {"ct": x})
    for variable, value in zip(model.variables, before, strict=True):
        assert np.array_equal(as_numpy(variable), value)
    logits = model.logits_model.predict({"ct": x}, verbose=0)
    for task, features in found.items():
        kernel, bias = model.get_layer(f"{task}_logits").get_weights()
        np.testing.assert_allclose(features @ kernel + bias, logits[task], atol=1e-4)


def test_task_without_a_dense_layer(images):
    inputs = keras.Input((8, 8, 1), name="a")
    outputs = {"pooled": L.GlobalAveragePooling2D()(L.Conv2D(2, 3)(inputs))}
    with pytest.raises(ValueError, match="'pooled' does not end in a `Dense` layer"):
        embedding(keras.Model(inputs, outputs), images["a"])


def groups(count, seed=0):
    """Two groups of points far apart in ten dimensions."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    return labels, generator.standard_normal((count, 10)) + 20 * labels[:, None]


def test_neighbours_stay_neighbours():
    labels, features = groups(40)
    points = tsne(features, perplexity=10, seed=0)
    assert points.shape == (40, 2) and points.dtype == "float32"
    distance = np.linalg.norm(points[:, None] - points, axis=-1)
    np.fill_diagonal(distance, np.inf)
    assert (labels[distance.argmin(axis=1)] == labels).all()
    within = labels[:, None] == labels
    assert distance[~within].min() > np.median(distance[within & (distance < np.inf)])


def test_same_seed_same_picture():
    _, features = groups(12)
    assert np.array_equal(tsne(features, seed=3), tsne(features, seed=3))


def test_few_samples():
    _, features = groups(4)
    assert np.isfinite(tsne(features)).all()


@pytest.mark.parametrize(
    "features",
    [
        np.zeros((3, 5)),
        np.zeros((0, 5)),
        np.zeros((8, 2, 2)),
        np.full((8, 3), np.nan),
        {"lesion": np.zeros((8, 3))},
    ],
    ids=["few", "none", "maps", "not finite", "dict"],
)
def test_features_that_are_no_matrix(features):
    with pytest.raises(ValueError, match=r"of shape \(n, units\)"):
        tsne(features)
