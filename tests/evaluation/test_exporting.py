"""Exporting a run."""

import importlib.util

import keras
import numpy as np
import pytest

from drifa_keras.deployment import FORMATS
from drifa_keras.evaluation import compare_exported, export_run
from drifa_keras.uncertainty import Ensemble

PHANTOMS = {"reader": "phantoms", "options": {"n": 120, "image_size": 16}}
TASKS = ("skin_lesion", "ct_nodule")

FORMAT = "torch" if keras.backend.backend() == "torch" else "tf_saved_model"
pytestmark = [
    pytest.mark.skipif(
        keras.backend.backend() == "jax"
        and importlib.util.find_spec("tensorflow") is None,
        reason="needs TensorFlow",
    ),
    pytest.mark.skipif(
        not FORMATS[FORMAT].keras_suffices,
        reason=f"Keras {keras.__version__} cannot write {FORMAT}",
    ),
]


@pytest.fixture(scope="module")
def run(make_run):
    return make_run(PHANTOMS)


def test_export_run(run, tmp_path):
    report = export_run(run, FORMAT, images=7)
    path = run.folder / "export"
    assert report["path"].startswith(str(path)) and len(list(path.iterdir())) == 1
    files = [f for f in path.rglob("*") if f.is_file()]
    assert report["bytes"] == sum(f.stat().st_size for f in files) > 0
    assert report["images"] == 7 and set(report["tasks"]) == set(TASKS)
    for found in report["tasks"].values():
        assert found["difference"] < 1e-4 and found["equal_answers"] == 1
        assert found["accuracy"] == found["exported_accuracy"]
    with pytest.raises(ValueError, match="exists already"):
        export_run(run, FORMAT)
    name = "other.pt2" if FORMAT == "torch" else "other"
    elsewhere = export_run(run, FORMAT, tmp_path / name, images=0)
    assert elsewhere["path"] == str(tmp_path / name)
    assert elsewhere["images"] == 0 and not elsewhere["tasks"]


def test_differences_are_found(run):
    model = run.load_model()
    shapes = {name: (6, *shape) for name, shape in model.modalities.items()}
    x = {name: np.full(shape, 9, "float32") for name, shape in shapes.items()}

    def turned(images):
        p = dict(model.predict(images, verbose=0))
        rows = np.arange(6) < 3  # half of the answers
        p["ct_nodule"] = np.where(
            rows[:, None], 1 - p["ct_nodule"], p["ct_nodule"]
        ).astype("float32")
        return p

    wanted = model.predict(x, verbose=0)["ct_nodule"][0]
    found = compare_exported(model, turned, x)
    assert found["skin_lesion"] == {"difference": 0.0, "equal_answers": 1.0}
    gap = np.abs(1 - 2 * wanted).max()
    assert found["ct_nodule"]["difference"] == pytest.approx(gap, abs=1e-6)
    assert found["ct_nodule"]["equal_answers"] == 0.5
    answer = model.predict(x, verbose=0)["ct_nodule"][0].argmax()
    # Of the first three, whose answers are turned, two are known and right before.
    y = np.array([answer, answer, -1, answer, answer, (answer + 1) % 3])
    labels = {"ct_nodule": y, "skin_lesion": np.full(6, -1)}
    found = compare_exported(model, turned, x, labels)
    assert "accuracy" not in found["skin_lesion"]
    assert found["ct_nodule"]["accuracy"] == pytest.approx(4 / 5)
    assert found["ct_nodule"]["exported_accuracy"] == pytest.approx(2 / 5)


def test_an_ensemble_is_not_exported(run, monkeypatch):
    ensemble = object.__new__(Ensemble)
    ensemble.__dict__["members"] = [None, None]
    monkeypatch.setattr(type(run), "load_model", lambda run: ensemble)
    with pytest.raises(ValueError, match="holds 2 networks: an export is of one"):
        export_run(run, FORMAT)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow"
    or importlib.util.find_spec("onnxruntime") is not None,
    reason="onnxruntime is there",
)
def test_without_a_runtime_the_file_is_there(run, tmp_path, monkeypatch):
    from drifa_keras.evaluation import exporting

    def write(model, path, format, quantize):
        path.write_bytes(b"0")
        return path

    monkeypatch.setattr(exporting, "export", write)
    with pytest.raises(ImportError, match="onnxruntime"):
        export_run(run, "onnx", tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").exists()
