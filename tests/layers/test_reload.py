"""Saved layers in a process that imports the package and nothing else."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from drifa_keras import layers
from harness import as_numpy, randomise

REPOSITORY = Path(__file__).resolve().parents[2]
BACKENDS = ("tensorflow", "jax", "torch")
SCRIPT = """
import sys
import numpy as np
import drifa_keras
import keras

folder = sys.argv[1]
model = keras.models.load_model(folder + "/model.keras")
images = np.load(folder + "/images.npz")
outputs = model([images["a"], images["b"]], training=False)
np.save(folder + "/outputs.npy", keras.ops.convert_to_numpy(outputs))
"""


def model_of_all_layers():
    """A small network in which every layer of the package has a part."""
    a, b = keras.Input((9, 9, 3), name="a"), keras.Input((9, 9, 3), name="b")
    x, y = layers.ModalityDropout(0.2)([a, b])
    presence = layers.ImagePresence()([a, b])
    x, y = layers.RRABlock(4, strides=2)(x), layers.RRABlock(4, strides=2)(y)
    x, y = layers.MFA(omega_d=False)(x), layers.MFA(clia=False)(y)
    x, y = layers.MIFA()([x, y], presence=presence)
    x, y = layers.MIFA(local_window=None, shared_fc=True)([x, y], presence=presence)
    x, y = layers.ERLABlock(4, groups=2)(x), layers.EMILA(4, groups=2)(y)
    x, y = layers.EMCAM(groups=2, released=True)([x, y], presence=presence)
    x, y = layers.CrossModalAttention(heads=2)([x, y], presence=presence)
    x = layers.MSGDC(4, groups=2, use_bias=True)(x)
    y = layers.ChannelAttention()(y) * y
    # Nothing random: the other backend draws other numbers.
    x = layers.RandomProjectionConv2D(4, 3, random_ratio=0.0)(x)
    y = layers.RandomProjectionDepthwiseConv2D(3, random_ratio=0.0)(y)
    x = layers.AttentionNoise(0.0)(x)
    x = layers.MCDropout(0.25)(x)
    even = keras.layers.ZeroPadding2D(((0, 1), (0, 1)))(y)
    unpooled = layers.MaxUnpooling2D()(layers.MaxPoolingWithIndices2D()(even))
    parts = [
        keras.layers.Flatten()(unpooled),
        layers.HIFA()(x),
        layers.CLIA()(y),
        layers.MGIFA()([x, y], presence=presence),
        keras.layers.Flatten()(layers.MLIFA()([x, y])),
        keras.layers.Flatten()(layers.MFIFA()([x, y])),
        keras.layers.Flatten()(layers.EMSCA(groups=2)([x, y], presence=presence)),
        layers.GlobalMinPooling2D()(x),
        keras.layers.Flatten()(layers.StreamConcatenate()([x, y], presence=presence)),
    ]
    outputs = keras.layers.Dense(8)(keras.layers.Concatenate()(parts))
    return keras.Model([a, b], layers.TemperatureSoftmax()(outputs))


def test_model_has_every_layer():
    used = {type(layer).__name__ for layer in model_of_all_layers().layers}
    exported = {
        name for name in layers.__all__ if isinstance(getattr(layers, name), type)
    }
    assert used >= exported


def current_and_others():
    """The backend in use, and the others as large cases."""
    current = keras.backend.backend()
    yield pytest.param(current)
    for backend in BACKENDS:
        if backend != current:
            yield pytest.param(backend, marks=pytest.mark.large)


@pytest.mark.parametrize("backend", list(current_and_others()))
def test_model_loads_with_the_package_alone(backend, tmp_path):
    if not importlib.util.find_spec(backend):
        pytest.skip(f"{backend} is not installed")
    model = randomise(model_of_all_layers())
    generator = np.random.default_rng(0)
    images = {
        name: generator.normal(size=(4, 9, 9, 3)).astype("float32") for name in "ab"
    }
    images["b"][::2] = 0
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "images.npz", **images)
    expected = as_numpy(model([images["a"], images["b"]], training=False))
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "PYTHONPATH": path,
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(
        np.load(tmp_path / "outputs.npy"), expected, atol=1e-4, rtol=1e-4
    )
