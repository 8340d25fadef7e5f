"""What each input changes, on a network whose answers are known in closed form."""

import keras
import numpy as np
import pytest

from drifa_keras.explain import cross_effect
from harness import as_numpy

L = keras.layers
WEIGHTS = {"a": 3.0, "b": -1.0, "c": 0.0}
SHAPE = (4, 4, 1)


@pytest.fixture(scope="module")
def model():
    """P(class 1) = sigmoid(3 mean(a) - mean(b) + 0 mean(c) - 0.5)."""
    inputs = {name: keras.Input(SHAPE, name=name) for name in WEIGHTS}
    means = [L.GlobalAveragePooling2D()(x) for x in inputs.values()]
    head = L.Dense(2, activation="softmax", name="answer")
    model = keras.Model(inputs, {"answer": head(L.Concatenate()(means))})
    kernel = np.array([[0, weight] for weight in WEIGHTS.values()])
    head.set_weights([kernel, np.array([0, -0.5])])
    return model


@pytest.fixture(scope="module")
def images():
    generator = np.random.default_rng(0)
    return {
        name: generator.standard_normal((6, *SHAPE)).astype("float32")
        + generator.standard_normal((6, 1, 1, 1)).astype("float32")
        for name in WEIGHTS
    }


def probability(images, **changed):
    """P(class 1)."""
    images = {**images, **changed}
    means = {name: x.mean(axis=(1, 2, 3)) for name, x in images.items()}
    logit = sum(WEIGHTS[name] * mean for name, mean in means.items()) - 0.5
    return 1 / (1 + np.exp(-logit))


def assert_same(actual, desired):
    np.testing.assert_allclose(actual, desired, atol=1e-5)


@pytest.mark.parametrize("wanted", [0, 1])
def test_blank(wanted, model, images):
    effects = cross_effect(model, images, class_index=wanted)
    assert list(effects) == ["a", "b", "c"]
    sign = 1 if wanted else -1
    for name, effect in effects.items():
        blanked = probability(images, **{name: 0 * images[name]})
        assert_same(effect.blank, sign * (probability(images) - blanked))
    assert np.abs(effects["a"].blank).max() > 0.1


@pytest.mark.parametrize("draws", [1, 4])
def test_shuffled_with_the_only_other_sample(draws, model, images):
    two = {name: x[:2] for name, x in images.items()}
    effects = cross_effect(model, two, class_index=1, draws=draws)
    before = probability(two)
    for name, effect in effects.items():
        after = probability(two, **{name: two[name][::-1]})
        assert_same(effect.shuffled, np.abs(after - before))
        assert_same(effect.flipped, (after > 0.5) != (before > 0.5))
    assert not effects["c"].blank.any() and not effects["c"].flipped.any()


def test_predicted_class_is_the_default(model, images):
    effects = cross_effect(model, images)
    predicted = (probability(images) > 0.5).astype(int)
    assert set(predicted) == {0, 1}
    each = cross_effect(model, images, class_index=predicted)
    for name in WEIGHTS:
        assert_same(effects[name].blank, each[name].blank)
        assert_same(effects[name].shuffled, each[name].shuffled)


def test_each_image_goes_to_another_sample(model, images):
    """With one draw, the effects are those of a permutation without fixed points."""
    effect = cross_effect(model, images, class_index=1, draws=1, seed=5)["a"]
    before = probability(images)
    partners = []
    for row in range(6):
        alone = {
            name: np.repeat(x[row : row + 1], 6, axis=0) for name, x in images.items()
        }
        changes = np.abs(probability(alone, a=images["a"]) - before[row])
        partners.append(int(np.abs(changes - effect.shuffled[row]).argmin()))
        assert_same(changes[partners[-1]], effect.shuffled[row])
        assert partners[-1] != row
    assert sorted(partners) == list(range(6))


def test_seeded(model, images):
    first, again, other = (
        cross_effect(model, images, draws=1, seed=seed)["a"].shuffled
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_nothing_moves_and_any_batch_size(model, images):
    before = [as_numpy(v) for v in model.variables]
    wanted = cross_effect(model, images)
    for variable, value in zip(model.variables, before, strict=True):
        assert np.array_equal(as_numpy(variable), value)
    for name, effect in cross_effect(model, images, batch_size=4).items():
        assert_same(effect.shuffled, wanted[name].shuffled)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"draws": 0}, "draws=0"),
        ({"draws": 1.5}, "draws=1.5"),
        ({"class_index": 2}, r"must lie in 0..1 for task 'answer'"),
        ({"task": "other"}, r"one of \['answer'\]"),
    ],
)
def test_bad_arguments(arguments, message, model, images):
    with pytest.raises(ValueError, match=message):
        cross_effect(model, images, **arguments)


def test_one_sample(model, images):
    with pytest.raises(ValueError, match="Received: 1 samples"):
        cross_effect(model, {name: x[:1] for name, x in images.items()})
