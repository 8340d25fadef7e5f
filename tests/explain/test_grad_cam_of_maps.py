"""Grad-CAM of networks that classify every pixel, by hand."""

import keras
import numpy as np
import pytest

from drifa_keras.explain import grad_cam
from drifa_keras.models import DRIFASegNet
from drifa_keras.models.baselines import SegNet, UNet

L = keras.layers

STAGES = {"filters": (4, 8), "convolutions": (1, 1)}
SMALL = {DRIFASegNet: STAGES, SegNet: STAGES, UNet: {"filters": (4, 8)}}


def network(classes=3):
    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8, 2), name="image")
    x = L.Conv2D(4, 1, activation="relu", name="features")(image)
    x = L.Conv2D(classes, 1, activation="softmax", name="seg")(x)
    return keras.Model(image, x)


def images(count=5, seed=0):
    generator = np.random.default_rng(seed)
    return generator.standard_normal((count, 8, 8, 2)).astype("float32")


def by_hand(model, x, wanted):
    """Relu of the features times the weights of the class, scaled to 0..1."""
    kernel, bias = (
        v.astype("float64") for v in model.get_layer("features").get_weights()
    )
    features = np.maximum(x @ kernel[0, 0] + bias, 0)
    weights, bias = (v.astype("float64") for v in model.get_layer("seg").get_weights())
    predicted = (features @ weights[0, 0] + bias).argmax(-1)
    maps = []
    for case in range(len(x)):
        k = wanted[case]
        area = (predicted[case] == k).sum()
        # d(sum over the area)/dA, meaned over all cells
        heat = np.maximum(features[case] @ (weights[0, 0][:, k] * area / 64), 0)
        heat -= heat.min()
        maps.append(heat / heat.max() if heat.max() > 0 else heat)
    return np.array(maps), predicted


@pytest.mark.parametrize("wanted", [None, 0, 2])
def test_evidence_for_the_pixels_of_a_class(wanted):
    model, x = network(), images()
    _, predicted = by_hand(model, x, [0] * 5)
    if wanted is None:
        counts = [np.bincount(p.ravel(), minlength=3) for p in predicted]
        classes = [c[1:].argmax() + 1 if c[1:].any() else 0 for c in counts]
    else:
        classes = [wanted] * 5
    expected, _ = by_hand(model, x, classes)
    found = grad_cam(model, x, class_index=wanted, layer="features")["image"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_background_is_explained_where_there_is_nothing_else():
    model, x = network(), images(2)
    kernel, _ = model.get_layer("seg").get_weights()
    model.get_layer("seg").set_weights([kernel, np.array([99, 0, 0], "float32")])
    expected, predicted = by_hand(model, x, [0, 0])
    assert not predicted.any()
    np.testing.assert_allclose(grad_cam(model, x)["image"], expected, atol=1e-5)
    assert not grad_cam(model, x, class_index=1)["image"].any()


@pytest.mark.parametrize("cls", [DRIFASegNet, SegNet, UNet])
def test_segmentation_networks(cls):
    keras.utils.set_random_seed(0)
    modalities = {"flair": (16, 16, 1), "t2": (16, 16, 1)}
    model = cls(modalities, {"tumor": 3}, **SMALL[cls])
    generator = np.random.default_rng(0)
    x = {name: generator.integers(1, 256, (2, 16, 16, 1)) for name in modalities}
    maps = grad_cam(
        model,
        x,
        task="tumor",
        class_index=model.predict(x, verbose=0)["tumor"].argmax(-1)[:, 8, 8],
    )
    for heat in maps.values():
        assert heat.shape == (2, 16, 16)
        assert heat.max() == 1 and heat.min() == 0


def test_where_maxima_were_is_no_evidence():
    modalities = {"flair": (16, 16, 1), "t2": (16, 16, 1)}
    model = DRIFASegNet(modalities, {"tumor": 2}, **STAGES)
    generator = np.random.default_rng(0)
    x = {name: generator.integers(1, 256, (2, 16, 16, 1)) for name in modalities}
    layers = {name: f"{name}_stage1_mfa" for name in modalities}
    default, gated = grad_cam(model, x), grad_cam(model, x, layer=layers)
    for name in modalities:
        np.testing.assert_array_equal(default[name], gated[name])
    with pytest.raises(ValueError, match="flair_pool1 4x4, "):
        grad_cam(model, x, layer="nowhere")


def test_other_outputs():
    image = keras.Input((4, 4, 4, 1))
    model = keras.Model(image, L.Dense(2, name="voxels")(image))
    with pytest.raises(ValueError, match=r"\(None, 4, 4, 4, 2\).*height, width, cl"):
        grad_cam(model, np.zeros((1, 4, 4, 4, 1)))
