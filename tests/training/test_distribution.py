"""Several devices: the same training as on one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from drifa_keras.training import distributed, synchronize, train
from drifa_keras.training.train import even_batch

BACKEND = keras.backend.backend()
REPOSITORY = Path(__file__).resolve().parents[2]

# Devices that are shares of the processor.
SCRIPT = """
import json
import sys

sys.path.insert(0, sys.argv[1])
folder, count, kill_after = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
import os
if os.environ["KERAS_BACKEND"] == "tensorflow":
    import tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * count
    )
from drifa_keras.configs import parse_config
from drifa_keras.training import train
from drifa_keras.training.recovery import Recovery

saved = Recovery.on_epoch_end

def on_epoch_end(self, epoch, logs=None):
    saved(self, epoch, logs)
    if epoch + 1 == kill_after:
        os._exit(9)

Recovery.on_epoch_end = on_epoch_end
train(parse_config(json.loads(sys.argv[5])), folder, verbose=0)
"""

CONFIG = {
    "seed": 1,
    "data": {
        "sources": [{"reader": "phantoms", "options": {"n": 90, "image_size": 16}}],
        "image_size": 16,
    },
    "model": {
        "preset": "drifa_tiny",
        # With masks of its own, a device would not do what one alone does.
        "arguments": {"filters": [4], "dropout": 0.0, "dropout_after": []},
    },
    "training": {
        "epochs": 3,
        "batch_size": 16,
        "pairs_per_epoch": 48,
        "schedule": "constant",
    },
    "evaluation": {"batch_size": 7},
}


def run_on(count, folder, kill_after=0, **training):
    config = json.loads(json.dumps(CONFIG))
    config["training"] |= {"distribute": count > 1, **training}
    done = subprocess.run(
        [
            *(sys.executable, "-c", SCRIPT, str(REPOSITORY), str(folder), str(count)),
            *(str(kill_after), json.dumps(config)),
        ],
        env={
            **os.environ,
            "KERAS_BACKEND": BACKEND,
            "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} "
            f"--xla_force_host_platform_device_count={count}",
            "PYTHONPATH": str(REPOSITORY),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (9 if kill_after else 0), done.stderr
    rows = np.genfromtxt(folder / "history.csv", delimiter=",", names=True)
    return rows, keras.models.load_model(folder / "model.keras")


def weights(model):
    return np.concatenate([w.ravel() for w in model.get_weights()])


several = pytest.mark.skipif(BACKEND == "torch", reason="a single device")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return run_on(1, tmp_path_factory.mktemp("alone") / "run")


# TensorFlow takes a minute for each of its processes.
@several
@pytest.mark.parametrize(
    ("count", "training"),
    [
        pytest.param(2, {}, marks=pytest.mark.large("tensorflow")),
        pytest.param(2, {"rematerialize": True}, marks=pytest.mark.large),
        pytest.param(4, {}, marks=pytest.mark.large),
    ],
    ids=["2", "2-rematerialize", "4"],
)
def test_the_same_as_on_one_device(alone, count, training, tmp_path):
    rows, model = run_on(count, tmp_path / "run", kill_after=2, **training)
    assert len(rows) == 2
    rows, model = run_on(count, tmp_path / "run", **training)  # goes on
    assert len(rows) == 3
    for column in rows.dtype.names:
        if column != "seconds_per_step":
            np.testing.assert_allclose(rows[column], alone[0][column], atol=1e-4)
    assert np.ptp(rows["loss"]) > 1e-2
    np.testing.assert_allclose(weights(model), weights(alone[1]), atol=1e-3)


@pytest.mark.parametrize(
    ("pairs", "batch_size", "devices", "size"),
    [(13, 8, 1, 7), (9, 7, 2, 6), (18, 7, 4, 8), (5, 64, 2, 6), (5, 2, 4, 4)],
)
def test_devices_share_even_batches_of_a_validation(pairs, batch_size, devices, size):
    assert even_batch(range(pairs), batch_size, devices) == size
    assert size % devices == 0


def test_batch_normalisation_is_synchronized():
    inputs = keras.Input((4,))
    inner = keras.Sequential([keras.layers.BatchNormalization()])
    model = keras.Model(inputs, keras.layers.BatchNormalization()(inner(inputs)))
    synchronize(model)
    both = inner.layers[0].synchronized, model.layers[-1].synchronized
    assert both == ((True, True) if BACKEND == "tensorflow" else (False, False))


def test_nothing_to_distribute_over(make_config, tmp_path):
    wanted = "which uses a single device" if BACKEND == "torch" else "sees one device"
    with pytest.raises(ValueError, match=wanted), distributed():
        pass
    config = make_config()
    settings = config.training.model_copy(update={"distribute": True})
    config = config.model_copy(update={"training": settings})
    with pytest.raises(ValueError, match=wanted):
        train(config, tmp_path / "run", verbose=0)
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_distributed(make_config, tmp_path, monkeypatch):
    import contextlib

    from drifa_keras.training import train as module

    monkeypatch.setattr(
        sys.modules["drifa_keras.training.train"],
        "distributed",
        lambda: contextlib.nullcontext(3),
    )
    config = make_config()
    for update, message in (
        ({"batch_size": 8}, r"batch of 8 .* 3 devices.*such as 9"),
        ({"adversarial": {"eps": 0.1, "steps": 1}}, "runs on a single device"),
    ):
        content = config.model_dump()
        content["training"] |= {"distribute": True, **update}
        with pytest.raises(ValueError, match=message):
            module(type(config).model_validate(content), tmp_path / "run", verbose=0)
    assert not (tmp_path / "run").exists()
