"""Temperature scaling against SciPy's minimizer, and in the heads of a model."""

import warnings

import keras
import numpy as np
import pytest
from scipy import optimize, special

import drifa_keras
from drifa_keras.uncertainty import (
    apply_temperature,
    fit_temperature,
    negative_log_likelihood,
    optimal_temperature,
    set_temperature,
)
from harness import as_numpy, assert_close


def softmax(logits, temperature=1.0):
    return special.softmax(np.asarray(logits, "float64") / temperature, axis=1)


def draw(n=500, classes=4, seed=0):
    """Logits, and labels drawn from their softmax."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (n, classes))
    below = softmax(logits).cumsum(axis=1)
    return logits, (generator.random((n, 1)) > below).sum(axis=1)


@pytest.mark.parametrize("scale", [0.2, 1.0, 4.0])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_scipy(scale, seed):
    logits, y_true = draw(seed=seed)
    logits = logits * scale

    def nll(log_temperature):
        log_p = special.log_softmax(logits / np.exp(log_temperature), axis=1)
        return -log_p[np.arange(len(y_true)), y_true].mean()

    best = optimize.minimize_scalar(nll, bounds=(-3, 3), options={"xatol": 1e-9})
    temperature = optimal_temperature(logits, y_true)
    assert temperature == pytest.approx(np.exp(best.x), rel=1e-5)
    assert nll(np.log(temperature)) == pytest.approx(best.fun, abs=1e-10)
    assert temperature == pytest.approx(scale, rel=0.15)


def test_logarithms_of_probabilities_are_logits():
    logits, y_true = draw()
    p = softmax(3 * logits)
    expected = optimal_temperature(3 * logits, y_true)
    assert optimal_temperature(np.log(p), y_true) == pytest.approx(expected, rel=1e-6)
    assert optimal_temperature(3 * logits + 7.5, y_true) == pytest.approx(expected)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_large_logits(dtype):
    logits, y_true = draw()
    logits = (logits * 5).astype(dtype)
    temperature = optimal_temperature(logits, y_true)
    assert type(temperature) is float
    assert temperature == pytest.approx(5, rel=0.15)


def test_never_raises_the_nll():
    for seed in range(200):
        generator = np.random.default_rng(seed)
        n, classes = generator.integers(2, 40), generator.integers(2, 6)
        logits = generator.normal(0, generator.uniform(0.01, 10), (n, classes))
        y_true = generator.integers(classes, size=n)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            temperature = optimal_temperature(logits, y_true)
        before = negative_log_likelihood(y_true, softmax(logits))
        after = negative_log_likelihood(y_true, softmax(logits, temperature))
        assert after <= before, seed


def test_a_calibrated_model_stays_as_it_is():
    logits, y_true = draw()
    temperature = optimal_temperature(logits, y_true)
    again = optimal_temperature(logits / temperature, y_true)
    assert again == pytest.approx(1, rel=1e-6)


def test_all_right_or_all_wrong():
    logits = np.array([[2.0, 0, 0], [0, 1, 0], [0, 0, 3]])
    with pytest.warns(UserWarning, match=r"3 validation labels.*stays 1.*right"):
        assert optimal_temperature(logits, np.arange(3)) == 1
    # The surest that is not harmful is none at all.
    assert optimal_temperature(logits, [1, 2, 0]) == pytest.approx(100)


@pytest.mark.parametrize(
    ("logits", "y_true", "message"),
    [
        (np.zeros(3), [0], r"\(n, classes\).*\(3,\)"),
        (np.zeros((0, 3)), [], r"at least one sample.*\(0, 3\)"),
        (np.zeros((2, 1)), [0, 0], r"two classes.*\(2, 1\)"),
        (np.full((1, 2), np.inf), [0], "finite"),
        (np.full((1, 2), np.nan), [0], "finite"),
        (np.zeros((2, 2)), [0], r"\(2,\).*\(1,\)"),
        (np.zeros((1, 2)), [2], r"0\.\.1.*2\.\.2"),
        (np.zeros((1, 2)), [-1], r"0\.\.1.*unknown"),
    ],
)
def test_bad_input(logits, y_true, message):
    with pytest.raises(ValueError, match=message):
        optimal_temperature(logits, y_true)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0, 3.0, 100.0])
def test_temperature_of_probabilities_is_that_of_logits(temperature):
    logits, _ = draw()
    p = apply_temperature(softmax(logits), temperature)
    np.testing.assert_allclose(p, softmax(logits, temperature), atol=1e-12)
    certain = np.array([[0.0, 1, 0], [1e-300, 0, 1]])
    assert np.array_equal(apply_temperature(certain, 0.05), certain.round())


def test_bad_probabilities_and_temperature():
    for value in (0, -1, np.nan, np.inf, None):
        with pytest.raises(ValueError, match="temperature must be a number above 0"):
            apply_temperature([[0.5, 0.5]], value)
    with pytest.raises(ValueError, match="sum to one"):
        apply_temperature([[0.5, 0.6]], 1.0)


@pytest.fixture
def model():
    modalities = {"ct": (4, 4, 1), "skin": (4, 4, 3)}
    inputs, streams, _ = drifa_keras.MultimodalModel.open_streams(modalities)
    flat = [keras.layers.Flatten()(stream) for stream in streams.values()]
    features = keras.layers.Concatenate()(flat)
    tasks = {"nodule": 3, "lesion": 4}
    model = drifa_keras.MultimodalModel(inputs, features, modalities, tasks)
    for task in tasks:  # far too sure
        kernel = model.get_layer(f"{task}_logits").kernel
        kernel.assign(kernel * 6)
    return model


@pytest.fixture
def images(model):
    generator = np.random.default_rng(1)
    return {
        name: generator.integers(1, 256, (60, *shape)).astype("float32")
        for name, shape in model.modalities.items()
    }


@pytest.fixture
def labels(model, images):
    """Labels that are as predicted in half of the images."""
    generator = np.random.default_rng(2)
    result = {}
    for task, p in model.predict(images, verbose=0).items():
        random = generator.integers(p.shape[1], size=60)
        result[task] = np.where(generator.random(60) < 0.5, p.argmax(axis=1), random)
    return result


def temperatures(model):
    return {
        task: float(as_numpy(model.get_layer(f"{task}_head").temperature))
        for task in model.tasks
    }


def test_heads_of_a_model_are_calibrated(model, images, labels, tmp_path):
    before = model.predict(images, verbose=0)
    logits = model.logits_model.predict(images, verbose=0)
    fitted = fit_temperature(model, images, labels)
    after = model.predict(images, verbose=0)
    assert temperatures(model) == fitted
    assert fitted["lesion"] != fitted["nodule"]
    for task, p in after.items():
        assert fitted[task] == optimal_temperature(logits[task], labels[task])
        assert fitted[task] > 1.5
        assert_close(p, softmax(logits[task], fitted[task]), 1e-5)
        assert np.array_equal(p.argmax(axis=1), before[task].argmax(axis=1))
        assert negative_log_likelihood(labels[task], p) < negative_log_likelihood(
            labels[task], before[task]
        )

    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    assert temperatures(reloaded) == fitted
    assert_close(reloaded.predict(images, verbose=0), after, 1e-5)

    # Fitted again it is the same: logits know nothing of the temperature.
    assert fit_temperature(model, images, labels) == fitted
    set_temperature(model, 1.0)
    for task, p in model.predict(images, verbose=0).items():
        assert np.array_equal(p, before[task])


def test_unknown_labels_are_left_out(model, images, labels):
    known = np.arange(60) % 3 > 0
    expected = fit_temperature(
        model,
        {name: array[known] for name, array in images.items()},
        {"lesion": labels["lesion"][known]},
    )
    set_temperature(model, {"nodule": 2.0, "lesion": 1.0})
    partly = {"lesion": np.where(known, labels["lesion"], -1)}
    assert fit_temperature(model, images, partly) == pytest.approx(expected, rel=1e-5)
    assert temperatures(model)["nodule"] == 2


def test_bad_data_for_a_model(model, images, labels):
    with pytest.raises(ValueError, match=r"no task 'liver'.*lesion"):
        fit_temperature(model, images, {"liver": labels["lesion"]})
    with pytest.raises(ValueError, match="'lesion' has no known label"):
        fit_temperature(model, images, {"lesion": np.full(60, -1)})
    with pytest.raises(ValueError, match="keyed by task"):
        fit_temperature(model, images, labels["lesion"])
    with pytest.raises(ValueError, match=r"\(60,\).*\(7,\)"):
        fit_temperature(model, images, {"lesion": labels["lesion"][:7]})
    with pytest.raises(ValueError, match="mri"):
        fit_temperature(model, {**images, "mri": images["ct"]}, labels)
    assert temperatures(model) == {"lesion": 1, "nodule": 1}


@pytest.mark.parametrize("value", [0, -1.0, np.nan, np.inf, "hot", None])
def test_bad_temperature(model, value):
    with pytest.raises(ValueError, match=r"'nodule'.*above 0"):
        set_temperature(model, {"lesion": 2.0, "nodule": value})
    assert temperatures(model) == {"lesion": 1, "nodule": 1}


def test_any_other_model():
    inputs = keras.Input((3,))
    other = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    for call in (
        lambda: set_temperature(other, 1.0),
        lambda: fit_temperature(other, np.zeros((1, 3)), {"a": [0]}),
    ):
        with pytest.raises(ValueError, match=r"logits_model.*optimal_temperature"):
            call()
