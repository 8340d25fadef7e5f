"""Exports, each read by its runtime in a process that never imports this package."""

import dataclasses
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from drifa_keras import DRIFANet, DRIFASegNet, RobustMAILNet
from drifa_keras.deployment import FORMATS, default_name, export, load_exported

BACKEND = keras.backend.backend()
MODALITIES = {"ct": (16, 16, 1), "skin": (16, 16, 3)}
TASKS = {"lesion": 3, "nodule": 2}
RUNTIMES = {
    "tf_saved_model": ("tensorflow",),
    "onnx": ("onnxruntime", "tf2onnx"),
    "litert": ("ai_edge_litert",),
    "torch": ("torch",),
}
COUNT = 100

READ = """
import sys
import numpy as np

path, kind = sys.argv[1:3]
images = dict(np.load("images.npz"))
if kind == "tf_saved_model":
    import tensorflow as tf
    network = tf.saved_model.load(path)
    found = network.serve(images)
    found = {task: x.numpy() for task, x in found.items()}
elif kind == "onnx":
    import onnxruntime
    session = onnxruntime.InferenceSession(path)
    tasks = [output.name for output in session.get_outputs()]
    found = dict(zip(tasks, session.run(tasks, images)))
elif kind == "litert":
    from ai_edge_litert.interpreter import Interpreter
    found = Interpreter(path).get_signature_runner()(**images)
else:
    import torch
    network = torch.export.load(path).module()
    rows = [
        network({name: torch.tensor(x[i : i + 1]) for name, x in images.items()})
        for i in range(len(images["ct"]))
    ]
    found = {t: np.concatenate([r[t].detach().numpy() for r in rows]) for t in rows[0]}
assert "drifa_keras" not in sys.modules
np.savez("found.npz", **found)
"""


def needs(name):
    """Skips a test where a format cannot be written, or not be read."""
    form, reason = FORMATS[name], None
    missing = [m for m in RUNTIMES[name] if importlib.util.find_spec(m) is None]
    if BACKEND not in form.backends:
        reason = f"is not written on {BACKEND}"
    elif not form.keras_suffices:
        reason = f"needs Keras {'.'.join(map(str, form.keras))}"
    elif missing:
        reason = f"needs {', '.join(missing)}"
    return pytest.mark.skipif(reason is not None, reason=reason or "")


def images(count=COUNT, seed=0):
    rng = np.random.default_rng(seed)
    x = {
        name: rng.integers(1, 256, (count, *shape)).astype("float32")
        for name, shape in MODALITIES.items()
    }
    x["ct"][: count // 4] = 0  # absent
    return x


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    model = DRIFANet(
        MODALITIES, TASKS, filters=(4, 8), stem="small", dropout_after=(1,)
    )
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:  # biases and scales are not zeros
        variable.assign(variable + 0.05 * rng.standard_normal(variable.shape))
    model.get_layer("lesion_head").temperature.assign(1.7)
    return model


@pytest.mark.parametrize("format", [pytest.param(f, marks=needs(f)) for f in FORMATS])
def test_agrees_with_the_network(model, format, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    path = export(loaded, tmp_path / "new" / default_name(format), format)
    assert path == tmp_path / "new" / default_name(format)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    x = images()
    np.savez(tmp_path / "images.npz", **x)
    command = [sys.executable, "-c", READ, str(path), format]
    subprocess.run(command, cwd=tmp_path, check=True)
    wanted = model.predict(x, verbose=0)
    read_here = load_exported(path)(x)
    with np.load(tmp_path / "found.npz") as found:
        assert set(found) == set(TASKS) == set(read_here)
        for task in TASKS:
            np.testing.assert_allclose(found[task], wanted[task], atol=1e-4)
            np.testing.assert_allclose(read_here[task], wanted[task], atol=1e-4)
    assert np.ptp(wanted["lesion"], axis=0).max() > 1e-3


@needs("litert")
def test_quantized_is_smaller_and_near(tmp_path):
    keras.utils.set_random_seed(0)
    model = DRIFANet(
        MODALITIES, TASKS, filters=(32, 64), stem="small", dropout_after=()
    )
    plain = export(model, tmp_path / "plain.tflite", "litert")
    small = export(model, tmp_path / "small.tflite", "litert", quantize=True)
    assert small.stat().st_size < 0.5 * plain.stat().st_size
    x = images(8)
    for task, p in load_exported(small)(x).items():
        gap = np.abs(p - load_exported(plain)(x)[task]).max()
        assert 0 < gap < 0.05


def test_random_networks_are_refused_where_they_would_be_fixed(tmp_path):
    format = "torch" if BACKEND == "torch" else "tf_saved_model"
    if BACKEND == "tensorflow":
        format = "litert"
    path = tmp_path / default_name(format)
    model = RobustMAILNet(
        MODALITIES, TASKS, filters=(8,), groups=2, stem="small", dropout_after=()
    )
    with pytest.raises(ValueError, match=r"random kernels or noise.*on TensorFlow"):
        export(model, path, format)
    assert not path.exists()


@pytest.mark.skipif(BACKEND != "tensorflow", reason="is written on TensorFlow")
@needs("tf_saved_model")
def test_random_networks_go_on_drawing(tmp_path):
    model = RobustMAILNet(
        MODALITIES, TASKS, filters=(8,), groups=2, stem="small", dropout_after=()
    )
    read = load_exported(export(model, tmp_path / "saved_model", "tf_saved_model"))
    x = images(4)
    first, second = (read(x)["lesion"] for _ in range(2))
    assert np.abs(first - second).max() > 1e-4


@pytest.mark.skipif(BACKEND != "tensorflow", reason="is written on TensorFlow")
@needs("tf_saved_model")
def test_label_maps(tmp_path):
    two = dict.fromkeys(("flair", "t2"), (8, 8, 1))
    model = DRIFASegNet(two, {"tumor": 3}, filters=(4, 8), convolutions=(1, 1))
    x = {
        name: np.random.default_rng(i).integers(1, 256, (3, 8, 8, 1)).astype("float32")
        for i, name in enumerate(two)
    }
    path = export(model, tmp_path / "saved_model", "tf_saved_model")
    np.testing.assert_allclose(
        load_exported(path)(x)["tumor"], model.predict(x, verbose=0)["tumor"], atol=1e-4
    )


def test_bad_arguments(model, tmp_path, monkeypatch):
    here = next(n for n, form in FORMATS.items() if BACKEND in form.backends)
    elsewhere = next(n for n, form in FORMATS.items() if BACKEND not in form.backends)
    taken = tmp_path / default_name(here)
    taken.mkdir()
    for arguments, message in (
        ((tmp_path / "a", "pickle"), r"must be one of \['tf_saved_model'.*'pickle'"),
        ((tmp_path / "a.bin", "onnx"), r"must end with \.onnx. Received: .*a\.bin"),
        ((tmp_path / "a.b", "tf_saved_model"), "must be a folder"),
        ((taken, here), "exists already"),
        ((tmp_path / "a.onnx", "onnx", True), '`quantize` is for `format="litert"`'),
        (
            (tmp_path / "new" / default_name(elsewhere), elsewhere),
            f"The backend is {BACKEND}.*drifa export --backend",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            export(model, *arguments)
    assert [p.name for p in tmp_path.iterdir()] == [taken.name]


@pytest.mark.skipif(BACKEND != "tensorflow", reason="is written on TensorFlow")
def test_what_onnx_cannot_do(tmp_path, monkeypatch):
    small = {"filters": (2,), "stem": "small", "dropout_after": ()}
    half = DRIFANet(MODALITIES, TASKS, dtype="mixed_bfloat16", **small)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs tf2onnx.*drifa_keras\[deployment\]"):
        export(half, tmp_path / "model.onnx", "onnx")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(ValueError, match="float32 networks.*bfloat16"):
        export(half, tmp_path / "model.onnx", "onnx")


def test_keras_that_cannot_write_it(model, tmp_path, monkeypatch):
    name = next(n for n, form in FORMATS.items() if BACKEND in form.backends)
    later = dataclasses.replace(FORMATS[name], keras=(99, 1), needs=())
    monkeypatch.setitem(FORMATS, name, later)
    wanted = re.escape(f"needs Keras 99.1. There is {keras.__version__}. ")
    with pytest.raises(ImportError, match=wanted):
        export(model, tmp_path / default_name(name), name)
    assert not list(tmp_path.iterdir())


def test_what_fails_leaves_nothing(model, tmp_path, monkeypatch):
    name = "litert"
    here = dataclasses.replace(FORMATS[name], backends=(BACKEND,), keras=(3, 9))
    monkeypatch.setitem(FORMATS, name, here)

    def fail(path, **kwargs):
        Path(path).mkdir()
        raise RuntimeError("out of space")

    monkeypatch.setattr(model, "export", fail, raising=False)
    with pytest.raises(RuntimeError, match="out of space"):
        export(model, tmp_path / default_name(name), name)
    assert not list(tmp_path.iterdir())


def test_no_exported_network(tmp_path):
    (tmp_path / "notes.txt").write_text("-")
    for path in (tmp_path, tmp_path / "notes.txt", tmp_path / "absent.onnx"):
        with pytest.raises(ValueError, match="is no exported network"):
            load_exported(path)
