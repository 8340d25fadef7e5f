"""DiceCrossEntropy."""

import keras
import numpy as np
import pytest

from drifa_keras.models import DiceCrossEntropy
from harness import as_numpy


def maps(count=3, size=6, classes=4, seed=0):
    """One-hot labels, one pixel in five unknown, and probabilities."""
    generator = np.random.default_rng(seed)
    y = generator.integers(0, classes, (count, size, size))
    t = np.eye(classes)[y] * (generator.random((count, size, size, 1)) > 0.2)
    z = np.exp(generator.standard_normal(t.shape))
    return t.astype("float32"), (z / z.sum(-1, keepdims=True)).astype("float32")


def wanted(t, p, smooth=1.0):
    """Pixel by pixel."""
    losses = []
    for labels, answers in zip(t.astype("float64"), p.astype("float64"), strict=True):
        known = [(i, j) for i, j in np.ndindex(labels.shape[:2]) if labels[i, j].any()]
        dices = []
        for k in range(1, labels.shape[-1]):
            both = sum(answers[place][k] * labels[place][k] for place in known)
            each = sum(answers[place][k] + labels[place][k] for place in known)
            dices.append((2 * both + smooth) / (each + smooth))
        entropy = -np.mean([np.log(answers[x][labels[x].argmax()]) for x in known])
        losses.append(1 - np.mean(dices) + entropy)
    return np.array(losses)


@pytest.mark.parametrize("smooth", [1.0, 0.1])
def test_is_the_formula(smooth):
    t, p = maps()
    loss = DiceCrossEntropy(smooth=smooth, reduction=None)
    np.testing.assert_allclose(as_numpy(loss(t, p)), wanted(t, p, smooth), rtol=1e-5)


def test_weights_of_the_images():
    t, p = maps()
    weights = np.array([0.0, 1.0, 3.0], "float32")
    found = as_numpy(DiceCrossEntropy()(t, p, sample_weight=weights))
    np.testing.assert_allclose(found, (wanted(t, p) * weights).sum() / 3, rtol=1e-5)


def test_right_answers_cost_nothing():
    t, _ = maps()
    known = t.sum(-1, keepdims=True)
    p = np.where(known > 0, t, 0.25).astype("float32")
    np.testing.assert_allclose(as_numpy(DiceCrossEntropy()(t, p)), 0, atol=1e-6)


def test_nothing_to_find_and_nothing_known():
    background = np.zeros((1, 4, 4, 3), "float32")
    background[..., 0] = 1
    for labels in (background, np.zeros_like(background)):
        found = as_numpy(DiceCrossEntropy()(labels, background))
        np.testing.assert_allclose(found, 0, atol=1e-6)


def test_is_saved_with_its_argument():
    loss = DiceCrossEntropy(smooth=0.5)
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(loss)
    )
    assert type(again) is DiceCrossEntropy and again.get_config() == loss.get_config()


def test_bad_arguments():
    with pytest.raises(ValueError, match="`smooth` must be above 0. Received: 0"):
        DiceCrossEntropy(smooth=0)
    flat = np.ones((2, 3), "float32")
    with pytest.raises(
        ValueError, match=r"\(batch, height, width, classes\).*\(2, 3\)"
    ):
        DiceCrossEntropy()(flat, flat)
