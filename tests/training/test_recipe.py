"""The recipe: optimizer, schedules, losses and what `fit` keeps."""

import csv
import itertools
import subprocess
import sys

import keras
import numpy as np
import pytest

from drifa_keras import DRIFANet
from drifa_keras.training import compile_model, fit
from harness import as_numpy


def make_model(tasks=None):
    return DRIFANet(
        {"skin": (16, 16, 3)},
        tasks or {"x": 2, "y": 3},
        mfa=False,
        mifa=False,
        filters=(2,),
        stem="small",
        dropout=0.0,
        dropout_after=(),
    )


def make_data(model, count=8, seed=0):
    """Images of two kinds that are easily told apart, with labels to match."""
    generator = np.random.default_rng(seed)
    kind = np.arange(count) % 2
    images = (
        generator.integers(1, 100, (count, 16, 16, 3)) + 150 * kind[:, None, None, None]
    )
    targets = {
        task: np.eye(classes, dtype="float32")[kind]
        for task, classes in model.tasks.items()
    }
    return {"skin": images.astype("float32")}, targets


def as_batches(model, count=8, seed=0):
    import tensorflow as tf

    images, targets = make_data(model, count, seed)
    weights = {task: np.ones(count, "float32") for task in targets}
    data = tf.data.Dataset.from_tensor_slices((images, targets, weights))
    return data.batch(4, drop_remainder=True)


def test_default_is_adam_and_the_mean_of_the_tasks_losses():
    model = make_model()
    compile_model(model)
    assert isinstance(model.optimizer, keras.optimizers.Adam)
    assert float(as_numpy(model.optimizer.learning_rate)) == pytest.approx(1e-3)
    images, targets = make_data(model)
    result = model.evaluate(images, targets, verbose=0, return_dict=True)
    outputs = model.predict(images, verbose=0)
    entropy = {
        task: -np.mean(np.sum(targets[task] * np.log(outputs[task]), axis=1))
        for task in model.tasks
    }
    assert result["loss"] == pytest.approx(sum(entropy.values()) / 2, abs=1e-5)
    for task, value in entropy.items():
        assert result[f"{task}_loss"] == pytest.approx(value, abs=1e-5)
        share = np.mean(outputs[task].argmax(axis=1) == targets[task].argmax(axis=1))
        assert result[f"{task}_accuracy"] == pytest.approx(share)


def test_loss_weights_are_used():
    model = make_model()
    compile_model(model, loss_weights={"x": 3.0, "y": 0.5})
    images, targets = make_data(model)
    result = model.evaluate(images, targets, verbose=0, return_dict=True)
    expected = 3.0 * result["x_loss"] + 0.5 * result["y_loss"]
    assert result["loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    "weights", [{"x": 1.0}, {"x": 1.0, "z": 1.0}, {"x": 1.0, "y": 1.0, "z": 1.0}, {}]
)
def test_loss_weights_of_other_tasks(weights):
    model = make_model()
    with pytest.raises(ValueError, match=r"`loss_weights`.*'x', 'y'") as error:
        compile_model(model, loss_weights=weights)
    assert str(sorted(weights)) in str(error.value)


def test_weighted_out_labels_count_neither_in_loss_nor_in_accuracy():
    model = make_model({"x": 2})
    compile_model(model)
    images, targets = make_data(model)
    known = np.array([1, 1, 1, 1, 0, 0, 0, 0], "float32")
    spoiled = {"x": targets["x"] * known[:, None]}
    result = model.evaluate(
        images, spoiled, sample_weight={"x": known}, verbose=0, return_dict=True
    )
    outputs = model.predict(images, verbose=0)["x"]
    share = np.mean(outputs[:4].argmax(axis=1) == targets["x"][:4].argmax(axis=1))
    assert result["accuracy"] == pytest.approx(share)


def test_cosine_warms_up_for_an_epoch_and_goes_down_to_zero():
    model = make_model()
    compile_model(
        model, learning_rate=0.01, schedule="cosine", steps=100, steps_per_epoch=10
    )
    schedule = model.get_compile_config()["optimizer"]["config"]["learning_rate"]
    schedule = keras.optimizers.schedules.deserialize(schedule)
    rates = [float(as_numpy(schedule(step))) for step in range(0, 101)]
    assert rates[0] == pytest.approx(0)
    assert rates[5] == pytest.approx(0.005)
    assert rates[10] == pytest.approx(0.01) == max(rates)
    assert rates[55] == pytest.approx(0.005)
    assert rates[100] == pytest.approx(0, abs=1e-8)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


@pytest.mark.parametrize("arguments", [{}, {"steps": 10}, {"steps_per_epoch": 10}])
def test_cosine_needs_to_know_the_steps(arguments):
    with pytest.raises(ValueError, match="`steps` and `steps_per_epoch`"):
        compile_model(make_model(), schedule="cosine", **arguments)


def test_cosine_of_one_step():
    model = make_model()
    compile_model(model, schedule="cosine", steps=1, steps_per_epoch=1)
    images, targets = make_data(model)
    assert np.isfinite(model.train_on_batch(images, targets)).all()


def test_unknown_schedule():
    with pytest.raises(ValueError, match=r"`schedule`.*'plateau'.*'linear'"):
        compile_model(make_model(), schedule="linear")


def test_xla_is_left_off_on_tensorflow_without_a_gpu():
    model = make_model()
    compile_model(model)
    if keras.backend.backend() == "tensorflow" and not (
        keras.distribution.list_devices("gpu")
    ):
        assert model.jit_compile is False
    compile_model(model, jit_compile=True)
    assert model.jit_compile is True


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Four epochs at a rate so high that the validation loss goes up and down."""
    keras.utils.set_random_seed(1)
    folder = tmp_path_factory.mktemp("fitted")
    model = make_model({"x": 2})
    compile_model(model, learning_rate=0.1)
    history = fit(
        model,
        as_batches(model).repeat(),
        as_batches(model, seed=9),
        epochs=4,
        steps_per_epoch=2,
        folder=folder,
        verbose=0,
    )
    return model, history.history, folder


def read_csv(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_best_epoch_is_the_one_that_is_kept(fitted):
    _, history, folder = fitted
    best = keras.models.load_model(folder / "model.keras")
    losses = history["val_loss"]
    result = best.evaluate(as_batches(best, seed=9), verbose=0, return_dict=True)
    assert result["loss"] == pytest.approx(min(losses), abs=1e-4)
    steps_of_best = 2 * (int(np.argmin(losses)) + 1)
    assert int(as_numpy(best.optimizer.iterations)) == steps_of_best


def test_history_has_the_tasks_prefix_for_one_task_too(fitted):
    _, history, folder = fitted
    rows = read_csv(folder / "history.csv")
    assert len(rows) == 4
    columns = set(rows[0])
    assert {"epoch", "loss", "val_loss"} <= columns
    assert {"x_accuracy", "x_loss", "val_x_accuracy", "val_x_loss"} <= columns
    assert not {"accuracy", "val_accuracy"} & columns
    for row, loss, accuracy in zip(
        rows, history["val_loss"], history["val_accuracy"], strict=True
    ):
        assert float(row["val_loss"]) == pytest.approx(loss)
        assert float(row["val_x_accuracy"]) == pytest.approx(accuracy)


def test_accuracy_as_monitor_is_maximised_and_unknown_monitor_named(tmp_path, fitted):
    model, _, _ = fitted  # compiled and traced already
    train, val = as_batches(model).repeat(), as_batches(model, seed=9)
    settings = {"epochs": 2, "steps_per_epoch": 2, "verbose": 0}
    history = fit(
        model, train, val, monitor="val_accuracy", folder=tmp_path, **settings
    ).history
    best = keras.models.load_model(tmp_path / "model.keras")
    result = best.evaluate(val, verbose=0, return_dict=True)
    assert result["accuracy"] == pytest.approx(max(history["val_accuracy"]))
    with pytest.warns(UserWarning), pytest.raises(ValueError) as error:
        fit(model, train, val, monitor="val_x_auc", folder=tmp_path, **settings)
    assert "'val_x_auc'" in str(error.value)
    assert "val_accuracy" in str(error.value)


def test_nothing_is_written_without_a_folder(tmp_path, monkeypatch, fitted):
    monkeypatch.chdir(tmp_path)
    model, _, _ = fitted
    fit(
        model,
        as_batches(model).repeat(),
        as_batches(model, seed=9),
        epochs=1,
        steps_per_epoch=2,
        verbose=0,
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")
def test_plateau_lowers_the_rate_by_the_papers_factor():
    model = make_model({"x": 2})
    model.trainable = False  # nothing improves
    compile_model(model)
    history = fit(
        model,
        as_batches(model).repeat(),
        as_batches(model, seed=9),
        epochs=13,
        steps_per_epoch=2,
        verbose=0,
    ).history
    rates = np.asarray(history["learning_rate"])
    assert rates[0] == pytest.approx(1e-3)
    assert rates[-1] == pytest.approx(1e-3 * 0.2**2, rel=1e-4)
    assert set(np.round(np.log(rates / 1e-3) / np.log(0.2)).astype(int)) == {0, 1, 2}


def test_loss_that_is_no_number_is_an_error_with_a_remedy():
    model = make_model({"x": 2})
    compile_model(model)
    # One weight that is no number is enough for a loss that is none.
    model.get_layer("x_logits").bias.assign([np.nan, 0.0])
    with pytest.raises(ValueError, match=r"NaN or infinite in epoch 1.*learning rate"):
        fit(
            model,
            as_batches(model).repeat(),
            as_batches(model, seed=9),
            epochs=2,
            steps_per_epoch=2,
            verbose=0,
        )


# So large that TensorFlow's graph optimiser would decide differently each time.
SCRIPT = """
import hashlib
import keras
import numpy as np
import drifa_keras as dk
from drifa_keras.training import compile_model

keras.utils.set_random_seed(0)
shape = (32, 32, 1)
model = dk.MultimodalModel.from_preset(
    "drifa_segnet_tiny", dict.fromkeys(("t1", "t1ce", "t2", "flair"), shape), {"x": 4}
)
compile_model(model)
draw = np.random.default_rng(0).integers
images = {name: draw(1, 256, (32, *shape)).astype("uint8") for name in model.modalities}
labels = {"x": np.eye(4, dtype="float32")[draw(0, 4, (32, 32, 32))]}
weights = {"x": np.ones(32, "float32")}
for _ in range(2):
    model.train_on_batch(images, labels, sample_weight=weights)
values = [keras.ops.convert_to_numpy(weight).tobytes() for weight in model.weights]
print(hashlib.sha256(b"".join(values)).hexdigest())
"""


@pytest.mark.large("jax", "torch")
def test_a_seed_gives_the_same_weights_in_every_process():
    processes = [
        subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    found = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(found[0].strip()) == 64
    assert len(set(found)) == 1
