"""What every network has to do, of the papers and of those it is compared with.

It trains, saves and loads, here and on another backend, predicts with a modality
missing, and gives uncertainty and Grad-CAM. The presets are shrunk; those for small
images (`_tiny`) have the class of another, and differ in what is shrunk here.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import drifa_keras as dk
from drifa_keras.models import (
    DRIFANet,
    DRIFASegNet,
    MAILNet,
    MultimodalModel,
    RobustMAILNet,
    preset_class,
    presets,
)
from drifa_keras.models.baselines import (
    MTFMA,
    CAFNet,
    CAFSegNet,
    GLoRIAFusion,
    GLoRIASegNet,
    MTFMASegNet,
    MTTUNet,
    MTTUSegNet,
    SegNet,
    SingleModalityNet,
    UNet,
)
from drifa_keras.training import compile_model
from harness import as_numpy, trace_nothing

REPOSITORY = Path(__file__).resolve().parents[2]
MODALITIES = {"ct": (16, 16, 1), "skin": (16, 16, 3)}
TASKS = {"lesion": 3, "nodule": 2}
COUNT = 4

STAGES = {"filters": (4, 8), "stem": "small"}
BRANCHES = {"filters": (4,), "stem": "small", "dropout_after": (0,)}
SMALL = {
    DRIFANet: BRANCHES,
    MAILNet: {**BRANCHES, "groups": 2},
    # A quarter of the filters of a group is drawn.
    RobustMAILNet: {**BRANCHES, "groups": 2, "filters": (8,)},
    DRIFASegNet: {"filters": (4, 8), "convolutions": (1, 1)},
    SegNet: {"filters": (4, 8), "convolutions": (1, 1)},
    UNet: {"filters": (4, 8)},
    GLoRIAFusion: {**STAGES, "units": 6},
    MTTUNet: {**STAGES, "units": 8, "depth": 1, "heads": 2, "hidden_units": (6, 5)},
    MTTUSegNet: {
        "filters": (4, 8),
        "blocks": (1, 1),
        "units": 8,
        "depth": 1,
        "heads": 2,
    },
    CAFNet: STAGES,
    CAFSegNet: {"filters": (4, 8), "convolutions": (1, 1)},
    GLoRIASegNet: {"filters": (4, 8), "convolutions": (1, 1), "units": 6},
    MTFMASegNet: {
        "filters": (4, 8),
        "convolutions": (1, 1),
        "units": 8,
        "depth": 1,
        "heads": 2,
    },
    MTFMA: {**STAGES, "units": 8, "depth": 1, "heads": 2},
    SingleModalityNet: {
        **BRANCHES,
        "task_modality": {"lesion": "skin", "nodule": "ct"},
    },
}
NETWORKS = [name for name in presets() if not name.endswith("_tiny")]

# Another backend, with one process for all networks.
SCRIPT = """
import sys
import numpy as np
import drifa_keras
import keras

folder, backend, *names = sys.argv[1:]
assert keras.backend.backend() == backend
images = dict(np.load(folder + "/images.npz"))
for name in names:
    model = keras.models.load_model(f"{folder}/{name}.keras")
    assert drifa_keras.models.preset_class(name) is type(model)
    outputs = model({key: array.copy() for key, array in images.items()})
    np.savez(
        f"{folder}/{name}.npz",
        **{key: keras.ops.convert_to_numpy(x) for key, x in outputs.items()},
    )
"""


def other_backends():
    """Another backend, and the last one where large tests run."""
    others = [
        name
        for name in ("torch", "tensorflow", "jax")
        if name != keras.backend.backend() and importlib.util.find_spec(name)
    ]
    yield from others[:1]
    yield from (pytest.param(name, marks=pytest.mark.large) for name in others[1:])


def backbone():
    """In place of Inception-v3, which takes no image below 75 px."""
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", name="first")(inputs)
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(x)
    return keras.Model(inputs, keras.layers.ReLU(name="second")(x))


def images(blank=()):
    generator = np.random.default_rng(0)
    arrays = {
        name: generator.integers(1, 256, (COUNT, *shape)).astype("float32")
        for name, shape in MODALITIES.items()
    }
    arrays["ct"][1] = 0
    return {name: x * (name not in blank) for name, x in arrays.items()}


def targets(model):
    """One-hot labels of every case, or of every pixel."""
    return {
        task: np.eye(x.shape[-1], dtype="float32")[
            np.indices((COUNT, *x.shape[1:-1])).sum(axis=0) % x.shape[-1]
        ]
        for task, x in model.output.items()
    }


class Networks(dict):
    """The networks by preset, each trained for a step when it is first asked for."""

    def __missing__(self, name):
        keras.utils.set_random_seed(1)
        arguments = dict(SMALL[preset_class(name)])
        if "inception" in name:
            stages = {"stages": ["first", "second"], "dropout_after": (0,)}
            arguments = {"backbone": backbone(), **stages}
        model = MultimodalModel.from_preset(name, MODALITIES, TASKS, **arguments)
        compile_model(model, learning_rate=0.01)
        # Compiled steps are tested with each class, and are what JAX makes here, too.
        trace_nothing(model)
        self[name] = model
        before = [as_numpy(w) for w in model.trainable_weights]
        history = model.fit(images(), targets(model), epochs=2, verbose=0).history
        assert np.isfinite(history["loss"]).all()
        assert {f"{task}_loss" for task in TASKS} < set(history)
        moved = [
            np.any(as_numpy(w) != old)
            for w, old in zip(model.trainable_weights, before, strict=True)
        ]
        assert np.mean(moved) > 0.9, "a step leaves weights where they were"
        return model


@pytest.fixture(scope="module")
def networks():
    return Networks()


def assert_same(actual, desired, tolerance):
    assert set(actual) == set(desired) == set(TASKS)
    for task, values in desired.items():
        np.testing.assert_allclose(actual[task], values, atol=tolerance, rtol=0)


def test_every_class_is_here():
    assert {preset_class(name) for name in presets()} == set(SMALL)
    assert {preset_class(name) for name in NETWORKS} == set(SMALL)


@pytest.mark.parametrize("name", NETWORKS)
def test_trains_saves_and_loads(name, networks, tmp_path):
    model = networks[name]
    config = json.loads(json.dumps(model.get_config()))
    kept = json.loads(json.dumps(type(model).from_config(config).get_config()))
    # Keras adds to the layers of a model in a config when it reads them.
    assert kept | {"backbone": None} == config | {"backbone": None}
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is preset_class(name)
    assert int(loaded.optimizer.iterations) == 2
    with dk.layers.freeze_randomness(model), dk.layers.freeze_randomness(loaded):
        outputs = model.predict(images(), verbose=0)
        again, logits = loaded(images()), loaded.logits_model(images())
    assert_same({task: as_numpy(x) for task, x in again.items()}, outputs, 1e-5)
    for task, values in outputs.items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values.sum(axis=-1), 1, atol=1e-5)
        powers = np.exp(as_numpy(logits[task]))
        softmax = powers / powers.sum(axis=-1, keepdims=True)
        np.testing.assert_allclose(softmax, values, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_predicts_with_a_modality_missing(name, networks):
    model = networks[name]
    with dk.layers.freeze_randomness(model):
        outputs = dk.predict(model, {"skin": images()["skin"]})
        wanted = model.predict(images(blank=["ct"]), verbose=0)
        assert_same(outputs, wanted, 1e-6)
        complete = model.predict(images(), verbose=0)
    assert max(np.abs(complete[task] - wanted[task]).max() for task in TASKS) > 1e-5


@pytest.mark.parametrize("name", NETWORKS)
def test_gives_uncertainty(name, networks):
    drawn = dk.uncertainty.predict(networks[name], images(), passes=4, verbose=0)
    for task, x in networks[name].output.items():
        assert drawn[task].mean.shape == (COUNT, *x.shape[1:])
        assert drawn[task].mutual_information.shape == (COUNT, *x.shape[1:-1])
        assert drawn[task].mutual_information.max() > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_gives_grad_cam(name, networks):
    model = networks[name]
    found = []
    for label in range(TASKS["lesion"]):
        with dk.layers.freeze_randomness(model):
            maps = dk.explain.grad_cam(
                model, images(), task="lesion", class_index=label
            )
        assert set(maps) == set(MODALITIES)
        assert maps["skin"].shape == (COUNT, 16, 16)
        found.append(maps["skin"])
    found = np.stack(found)
    assert np.isfinite(found).all() and found.min() >= 0
    # Nothing may speak for one of the classes, but something does for another.
    assert found.max() == pytest.approx(1)


@pytest.mark.parametrize("name", NETWORKS)
def test_has_features_to_be_drawn(name, networks):
    model = networks[name]
    if model.maps:
        pytest.skip("a case has no features of its own where pixels are classified")
    for features in dk.explain.embedding(model, images()).values():
        assert len(features) == COUNT and np.ptp(features, axis=0).max() > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_costs_something(name, networks):
    counted = dk.models.cost(networks[name])
    assert counted.parameters == networks[name].count_params()
    assert counted.multiply_adds > 1e4


@pytest.mark.parametrize("backend", list(other_backends()))
def test_another_backend_loads_and_predicts(backend, networks, tmp_path):
    np.savez(tmp_path / "images.npz", **images())
    for name in NETWORKS:
        networks[name].save(tmp_path / f"{name}.keras")
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), backend, *NETWORKS],
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name in NETWORKS:
        with np.load(tmp_path / f"{name}.npz") as file:
            theirs = dict(file)
        if preset_class(name) is RobustMAILNet:  # a backend draws its own numbers
            assert all(np.isfinite(values).all() for values in theirs.values())
        else:
            assert_same(theirs, networks[name].predict(images(), verbose=0), 1e-4)
