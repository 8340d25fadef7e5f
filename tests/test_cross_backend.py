"""A model trained on one backend goes on in a fresh process on another, and back."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from drifa_keras import DRIFANet, MAILNet, RobustMAILNet
from drifa_keras.explain import grad_cam
from drifa_keras.training import compile_model
from harness import as_numpy, randomise

REPOSITORY = Path(__file__).resolve().parents[1]
OTHERS = [b for b in ("tensorflow", "jax", "torch") if b != keras.backend.backend()]

# All that another project does: import the package, load, train, save.
SCRIPT = """
import sys
import numpy as np
import drifa_keras
import keras

folder, backend = sys.argv[1:]
assert keras.backend.backend() == backend
model = keras.models.load_model(folder + "/model.keras")
data = np.load(folder + "/data.npz")
images = {name: data["image." + name] for name in model.modalities}
targets = {task: data["target." + task] for task in model.tasks}
state = [keras.ops.convert_to_numpy(v) for v in model.optimizer.variables]
outputs = model.predict(images, verbose=0)
maps = {
    f"map.{name}.{label}": values
    for label in range(3)
    for name, values in drifa_keras.explain.grad_cam(
        model, images, task="lesion", class_index=label
    ).items()
}
model.fit(images, targets, batch_size=4, shuffle=False, verbose=0)
model.save(folder + "/" + backend + ".keras")
np.savez(
    folder + "/" + backend + ".npz",
    iterations=keras.ops.convert_to_numpy(model.optimizer.iterations),
    **{"before." + task: values for task, values in outputs.items()},
    **{"after." + task: v for task, v in model.predict(images, verbose=0).items()},
    **{"state.%d" % i: value for i, value in enumerate(state)},
    **maps,
)

for name in ("mail", "robust_mail"):
    model = keras.models.load_model(folder + "/" + name + ".keras")
    arrays = {"weight.%d" % i: w for i, w in enumerate(model.get_weights())}
    with drifa_keras.layers.freeze_randomness(model):
        for call in ("held", "again"):
            arrays[call] = model.predict(images, verbose=0)["lesion"]
    arrays["drawn"] = model.predict(images, verbose=0)["lesion"]
    model.save(folder + "/" + name + "." + backend + ".keras")
    np.savez(folder + "/" + name + "." + backend + ".npz", **arrays)
"""

SMALL_MAIL = {
    "modalities": {"ct": (16, 16, 1), "skin": (16, 16, 3)},
    "tasks": {"lesion": 3, "nodule": 2},
    "filters": (8,),
    "groups": 2,
    "stem": "small",
    "dropout_after": (),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a model after two steps of Adam, its data and its outputs."""
    keras.utils.set_random_seed(3)
    folder = tmp_path_factory.mktemp("cross")
    model = DRIFANet(
        {"ct": (16, 16, 1), "skin": (16, 16, 3)},
        {"lesion": 3, "nodule": 2},
        mfa={"omega_d": False},
        filters=(4,),
        stem="small",
        dropout=0.0,
        dropout_after=(),
    )
    compile_model(model, schedule="cosine", steps=20, steps_per_epoch=2)
    generator = np.random.default_rng(0)
    images = {
        name: generator.integers(1, 256, (4, *shape)).astype("float32")
        for name, shape in model.modalities.items()
    }
    images["ct"][1] = 0
    targets = {
        task: np.eye(classes, dtype="float32")[np.arange(4) % classes]
        for task, classes in model.tasks.items()
    }
    model.fit(images, targets, batch_size=4, epochs=2, verbose=0)
    model.get_layer("lesion_head").temperature.assign(1.5)
    model.save(folder / "model.keras")
    np.savez(
        folder / "data.npz",
        **{f"image.{name}": array for name, array in images.items()},
        **{f"target.{task}": array for task, array in targets.items()},
    )
    maps = {
        f"map.{name}.{label}": values
        for label in range(3)
        for name, values in grad_cam(
            model, images, task="lesion", class_index=label
        ).items()
    }
    # Nothing may speak for one of the classes, but something does for another.
    for name in images:
        assert any(maps[f"map.{name}.{label}"].any() for label in range(3))
    np.savez(folder / "maps.npz", **maps)
    # The step that the other backends are to make, too.
    outputs = model.predict(images, verbose=0)
    state = [as_numpy(v) for v in model.optimizer.variables]
    model.fit(images, targets, batch_size=4, shuffle=False, verbose=0)
    return folder, images, outputs, state, model.predict(images, verbose=0)


@pytest.fixture(scope="module")
def mails(trained):
    """MAIL and Robust-MAIL with random weights, in the same folder."""
    networks = {
        "mail": MAILNet(**SMALL_MAIL),
        "robust_mail": RobustMAILNet(**SMALL_MAIL),
    }
    for name, model in networks.items():
        randomise(model, scale=0.3).save(trained[0] / f"{name}.keras")
    return networks


@pytest.fixture(scope="module", params=OTHERS)
def elsewhere(request, trained, mails):
    """Another backend, after a process of its own has run `SCRIPT`."""
    backend, folder = request.param, trained[0]
    if not importlib.util.find_spec(backend):
        pytest.skip(f"{backend} is not installed")
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), backend],
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "PYTHONPATH": path,
        },
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return backend


def assert_same(actual, desired):
    np.testing.assert_allclose(actual, desired, atol=1e-4, rtol=0)


def test_another_backend_carries_on(elsewhere, trained):
    backend = elsewhere
    folder, images, outputs, state, after = trained
    with np.load(folder / f"{backend}.npz") as file:
        theirs = dict(file)
    states = [theirs[f"state.{i}"] for i in range(len(state))]
    assert f"state.{len(state)}" not in theirs
    for mine, other in zip(state, states, strict=True):
        np.testing.assert_allclose(other, mine, atol=1e-6)
    assert theirs["iterations"] == 3
    for task, values in outputs.items():
        assert_same(theirs[f"before.{task}"], values)
        # The same step from the same state of Adam leads to the same place.
        np.testing.assert_allclose(
            theirs[f"after.{task}"], after[task], atol=1e-3, rtol=0
        )
        assert np.abs(after[task] - values).max() > 1e-3
    with np.load(folder / "maps.npz") as maps:
        for name, values in maps.items():
            np.testing.assert_allclose(theirs[name], values, atol=1e-3, rtol=0)

    back = keras.models.load_model(folder / f"{backend}.keras")
    assert int(as_numpy(back.optimizer.iterations)) == 3
    assert as_numpy(back.get_layer("lesion_head").temperature) == pytest.approx(1.5)
    for task, values in back.predict(images, verbose=0).items():
        assert_same(values, theirs[f"after.{task}"])
    targets = {
        task: np.eye(classes, dtype="float32")[np.arange(4) % classes]
        for task, classes in back.tasks.items()
    }
    back.train_on_batch(images, targets)
    assert int(as_numpy(back.optimizer.iterations)) == 4


def test_another_backend_loads_mail(elsewhere, trained, mails):
    folder, images = trained[:2]
    for name, model in mails.items():
        with np.load(folder / f"{name}.{elsewhere}.npz") as file:
            theirs = dict(file)
        back = keras.models.load_model(folder / f"{name}.{elsewhere}.keras")
        weights = model.get_weights()
        for index, weight in enumerate(weights):
            np.testing.assert_array_equal(theirs[f"weight.{index}"], weight)
        assert f"weight.{len(weights)}" not in theirs
        assert type(back) is type(model)
        np.testing.assert_allclose(theirs["again"], theirs["held"], atol=1e-6)
        moved = np.abs(theirs["drawn"] - theirs["held"]).max()
        if name == "mail":
            outputs = model.predict(images, verbose=0)["lesion"]
            assert_same(theirs["held"], outputs)
            assert_same(back.predict(images, verbose=0)["lesion"], outputs)
            assert moved < 1e-6
        else:
            # A seed draws other numbers on every backend: what follows from them is
            # tested on each, against the equations.
            assert moved > 1e-5
