"""What every network here shares: logits, presence, saving, mixed precision, names."""

import io
import json
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras import ops

import drifa_keras as dk
from drifa_keras.graph_optimizer import without_graph_optimizer
from drifa_keras.training import compile_model
from harness import as_numpy, randomise


def assert_equal_outputs(actual, desired, tolerance=1e-5):
    assert set(actual) == set(desired)
    for task in desired:
        np.testing.assert_allclose(
            as_numpy(actual[task]), as_numpy(desired[task]), atol=tolerance, rtol=0
        )


@pytest.fixture(scope="module")
def model(make_plain):
    """A whole tiny network with random weights, for reading only."""
    return randomise(make_plain(mfa=True, mifa=True), scale=0.5)


@pytest.fixture(scope="module")
def three(make_plain):
    """Three streams that meet in a MIFA after every block."""
    shape = (16, 16, 1)
    return randomise(
        make_plain(
            dict.fromkeys("abc", shape),
            {"x": 3},
            mifa=True,
            fusion="every_block",
        ),
        scale=0.3,
    )


@pytest.fixture(scope="module")
def plain(make_plain):
    """Two streams that meet in the final concatenation alone."""
    return randomise(make_plain(), scale=0.3)


# === Logits ===


def test_softmax_of_the_logits_is_the_output(model, make_images):
    images = make_images(model)
    for task in model.tasks:
        model.get_layer(f"{task}_head").temperature.assign(2.0)
    logits = model.logits_model.predict(images, verbose=0)
    outputs = model.predict(images, verbose=0)
    assert set(logits) == set(model.tasks)
    for task, values in logits.items():
        assert values.dtype == np.float32
        softmax = as_numpy(ops.softmax(values / 2.0))
        np.testing.assert_allclose(softmax, outputs[task], atol=1e-6)
        assert np.abs(values.sum(axis=1) - 1).max() > 1e-3  # raw, not probabilities


# === Presence ===


@pytest.mark.parametrize("absent", ["ct", "skin"])
def test_predict_fills_in_zeros(model, absent, make_images):
    images = make_images(model)
    zeros = {**images, absent: np.zeros_like(images[absent])}
    there = {name: array for name, array in images.items() if name != absent}
    expected = model.predict(zeros, verbose=0)
    assert_equal_outputs(dk.predict(model, there), expected)
    assert_equal_outputs(dk.predict(model, {**there, absent: None}), expected)
    complete = model.predict(images, verbose=0)
    assert np.abs(complete["lesion"] - expected["lesion"]).max() > 1e-5


def test_predict_with_everything_is_the_models_own(model, make_images):
    images = make_images(model)
    assert_equal_outputs(dk.predict(model, images), model.predict(images, verbose=0))


def test_presence_is_a_samples_own(model, make_images):
    images = make_images(model)
    blank = images["ct"].copy()
    blank[1] = 0
    outputs = dk.predict(model, {**images, "ct": blank})
    complete = dk.predict(model, images)
    without = dk.predict(model, {"skin": images["skin"]})
    for task in model.tasks:
        rows = [0, 2, 3]
        np.testing.assert_allclose(outputs[task][rows], complete[task][rows], atol=1e-5)
        np.testing.assert_allclose(outputs[task][1], without[task][1], atol=1e-5)


@pytest.mark.parametrize("network", ["model", "three", "plain"])
def test_weights_of_an_absent_stream_cannot_matter(network, request, make_images):
    model = request.getfixturevalue(network)
    images = make_images(model)
    absent, *others = model.modalities
    there = {name: images[name] for name in others}
    before = dk.predict(model, there)
    own = [w for w in model.weights if w.path.startswith(f"{absent}_st")]
    assert own
    kept = [as_numpy(w) for w in own]
    for weight in own:
        weight.assign(weight + 0.5)
    after = dk.predict(model, there)
    complete = dk.predict(model, images)
    for weight, value in zip(own, kept, strict=True):
        weight.assign(value)
    assert_equal_outputs(after, before, 1e-6)
    # The same change does matter where the modality is there.
    task = next(iter(before))
    original = dk.predict(model, images)
    assert np.abs(complete[task] - original[task]).max() > 1e-4


def test_single_modality_model(make_plain, make_images):
    model = make_plain({"mri": (16, 16, 1)}, {"tumor": 4}, mfa=True, mifa=True)
    images = make_images(model)
    outputs = dk.predict(model, images)
    assert outputs["tumor"].shape == (4, 4)
    assert_equal_outputs(outputs, model.predict(images, verbose=0))
    # A blank image is all there is: it counts as present, and gives numbers.
    assert np.isfinite(
        model.predict({"mri": images["mri"] * 0}, verbose=0)["tumor"]
    ).all()


def test_nothing_present_gives_numbers(model, make_images):
    blank = {name: 0 * array for name, array in make_images(model).items()}
    for values in model.predict(blank, verbose=0).values():
        np.testing.assert_allclose(values.sum(axis=1), 1, atol=1e-6)


def test_modality_dropout_is_for_training_alone(make_plain, make_images):
    model = make_plain(modality_dropout=0.6)
    plain = make_plain()
    plain.set_weights([as_numpy(w) for w in model.weights if "seed" not in w.path])
    images = make_images(model)
    assert_equal_outputs(
        model.predict(images, verbose=0), plain.predict(images, verbose=0)
    )
    drawn = [as_numpy(model(images, training=True)["lesion"]) for _ in range(4)]
    assert max(np.abs(drawn[0] - other).max() for other in drawn[1:]) > 1e-5


# === Saving ===


@pytest.fixture(scope="module")
def trained(make_plain, make_images, make_targets, tmp_path_factory):
    """A trained network, its file, and what it gave when it was saved."""
    model = make_plain(
        mfa={"activation": "relu"}, mifa=True, dropout=0.25, modality_dropout=0.1
    )
    compile_model(model, learning_rate=0.01)
    model.logits_model  # noqa: B018
    before = snapshot(model.weights)
    images, targets = make_images(model), make_targets(model)
    model.fit(images, targets, batch_size=4, epochs=3, verbose=0)
    model.get_layer("lesion_head").temperature.assign(1.7)
    path = tmp_path_factory.mktemp("trained") / "model.keras"
    model.save(path)
    model.moved = moved(before, model.weights)
    return model, path, images, model.predict(images, verbose=0)


@pytest.fixture(scope="module")
def loaded(trained):
    return keras.models.load_model(trained[1])


def test_training_moves_every_trainable_weight(trained):
    model = trained[0]
    assert {w.path for w in model.trainable_weights} - model.moved == set()


def test_training_moved_the_logits_view_along(trained, make_images):
    model, _, images, outputs = trained
    logits = model.logits_model.predict(images, verbose=0)
    temperatures = {"lesion": 1.7, "nodule": 1.0}
    for task, values in logits.items():
        softmax = as_numpy(ops.softmax(values / temperatures[task]))
        np.testing.assert_allclose(softmax, outputs[task], atol=1e-5)


def test_reloaded_model_gives_the_same(trained, loaded):
    model, _, images, outputs = trained
    assert type(loaded) is type(model)
    assert loaded.get_config() == model.get_config()
    assert_equal_outputs(loaded.predict(images, verbose=0), outputs)


def test_temperature_is_saved(loaded):
    assert as_numpy(loaded.get_layer("lesion_head").temperature) == pytest.approx(1.7)
    assert as_numpy(loaded.get_layer("nodule_head").temperature) == 1.0


def test_file_holds_each_weight_once(trained):
    model, path, _, _ = trained
    sizes = []

    def visit(name, item):
        if isinstance(item, h5py.Dataset) and not name.startswith("optimizer"):
            sizes.append(item.size)

    with zipfile.ZipFile(path) as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(content) as file:
        file.visititems(visit)
    assert len(sizes) == len(model.weights) == len({id(w) for w in model.weights})
    assert sum(sizes) == model.count_params()


def test_config_holds_arguments_and_no_code(trained):
    with zipfile.ZipFile(trained[1]) as archive:
        config = archive.read("config.json").decode()
    assert "Lambda" not in config
    assert "keras.src.backend" not in config  # what only one backend could load
    assert json.loads(config)["registered_name"] == "drifa_keras>DRIFANet"
    assert len(config) < 6_000  # the arguments, not the list of layers


def test_training_goes_on_after_a_reload(trained, make_images, make_targets):
    model, path, images, _ = trained
    again = keras.models.load_model(path)
    assert int(again.optimizer.iterations) == int(model.optimizer.iterations) == 3
    for old, new in zip(
        model.optimizer.variables, again.optimizer.variables, strict=True
    ):
        np.testing.assert_allclose(as_numpy(new), as_numpy(old), atol=1e-6)
    before = [as_numpy(w) for w in again.trainable_weights]
    again.fit(images, make_targets(again), batch_size=4, verbose=0)
    assert int(again.optimizer.iterations) == 4
    # Adam with its state moves on; with a fresh one every weight would jump by the
    # learning rate.
    steps = [
        np.abs(as_numpy(w) - old).max()
        for w, old in zip(again.trainable_weights, before, strict=True)
    ]
    assert 0 < max(steps) < 0.05


def test_uncompiled_model_saves_and_loads(plain, make_images, tmp_path):
    plain.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert not loaded.compiled
    images = make_images(plain)
    assert_equal_outputs(
        loaded.predict(images, verbose=0), plain.predict(images, verbose=0)
    )


def test_clone_has_fresh_weights_and_the_same_arguments(plain):
    clone = keras.models.clone_model(plain)
    assert [tuple(w.shape) for w in clone.weights] == [
        tuple(w.shape) for w in plain.weights
    ]
    assert not np.array_equal(
        as_numpy(clone.get_layer("ct_stem_conv").kernel),
        as_numpy(plain.get_layer("ct_stem_conv").kernel),
    )


def test_trainable_is_kept(make_plain):
    model = make_plain(trainable=False)
    assert not model.trainable_weights
    assert not type(model).from_config(model.get_config()).trainable_weights


# === Freezing and LoRA ===


def snapshot(weights):
    return {w.path: as_numpy(w) for w in weights}


def moved(before, weights):
    return {w.path for w in weights if not np.array_equal(as_numpy(w), before[w.path])}


def test_layer_frozen_after_compile_stays_put(make_plain, make_images, make_targets):
    model = make_plain()
    compile_model(model, learning_rate=0.01)
    frozen = [layer for layer in model.layers if layer.name.startswith("ct_")]
    for layer in frozen:
        layer.trainable = False
    before = snapshot(model.weights)
    model.fit(make_images(model), make_targets(model), epochs=2, verbose=0)
    changed = moved(before, model.weights)
    of_frozen = {w.path for layer in frozen for w in layer.weights}
    assert of_frozen
    assert not changed & of_frozen
    trainable = {w.path for w in model.trainable_weights}
    assert trainable
    assert changed >= trainable
    assert not any(path.endswith("temperature") for path in changed)


@pytest.mark.parametrize("jit_compile", [True, False])
def test_backend_that_loads_decides_whether_to_compile(
    make_plain, jit_compile, tmp_path
):
    """Keras' own default saves what was decided for the backend that trained."""
    model = make_plain()
    model.compile("adam", "categorical_crossentropy")
    default = model.jit_compile
    model.compile("adam", "categorical_crossentropy", jit_compile=jit_compile)
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").jit_compile == default


@pytest.fixture
def set_gpus(monkeypatch):
    """Makes TensorFlow list as many GPUs, whatever the machine has."""
    tf = pytest.importorskip("tensorflow")
    listed = tf.config.list_logical_devices

    def set_number(number):
        def list_devices(kind=None):
            return [object()] * number if kind == "GPU" else listed(kind)

        monkeypatch.setattr(tf.config, "list_logical_devices", list_devices)

    return set_number


@pytest.mark.parametrize("gpus", [0, 1])
def test_graph_optimiser_is_left_out_on_tensorflow_without_a_gpu(set_gpus, gpus):
    def step(data):
        return data

    set_gpus(gpus)
    left_out = keras.backend.backend() == "tensorflow" and not gpus
    assert (without_graph_optimizer(step) is not step) == left_out
    assert without_graph_optimizer(step)(3) == 3


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow's graph optimiser"
)
@pytest.mark.parametrize("mine", [{}, {"min_graph_nodes": 7}])
def test_training_alone_goes_without_the_graph_optimiser(
    make_plain, make_images, make_targets, mine, set_gpus
):
    import tensorflow as tf

    set_gpus(0)
    model = make_plain()
    compile_model(model)
    options, seen = tf.config.optimizer, {}

    def nodes():
        return options.get_experimental_options().get("min_graph_nodes", 0)

    for step in ("train_step", "test_step"):
        plain = getattr(model, step)

        def traced(data, step=step, plain=plain):
            seen[step] = nodes()
            return plain(data)

        setattr(model, step, traced)
    batch = make_images(model), make_targets(model)
    options.set_experimental_options(mine)
    try:
        before = nodes()
        model.fit(*batch, validation_data=batch, verbose=0)
        assert seen["train_step"] > 10**6
        assert seen["test_step"] == nodes() == before == mine.get("min_graph_nodes", 0)

        def broken(data):
            raise RuntimeError("broken")

        model.train_step = broken
        model.make_train_function(force=True)
        with pytest.raises(RuntimeError, match="broken"):
            model.train_on_batch(*batch)
        assert nodes() == before
    finally:
        options.set_experimental_options({"min_graph_nodes": 0})


def test_frozen_layer_stays_frozen_after_a_reload(make_plain, tmp_path):
    # As in any Functional model, whose layers say so in their configs.
    model = make_plain()
    model.get_layer("ct_stem_conv").trainable = False
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert not loaded.get_layer("ct_stem_conv").trainable
    assert loaded.get_layer("skin_stem_conv").trainable


def test_lora_trains_saves_and_loads(make_plain, make_images, make_targets, tmp_path):
    model = make_plain()
    head = model.get_layer("lesion_logits")
    head.enable_lora(2)
    compile_model(model, learning_rate=0.01)
    images, targets = make_images(model), make_targets(model)
    before = snapshot(model.weights)
    kernel = as_numpy(head.kernel)
    model.fit(images, targets, epochs=3, verbose=0)
    changed = moved(before, model.weights)
    assert {path for path in changed if "lora" in path}
    assert "lora" in "".join(w.path for w in model.trainable_weights)
    assert np.abs(as_numpy(head.kernel) - kernel).max() > 0
    expected = model.predict(images, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_equal_outputs(loaded.predict(images, verbose=0), expected)
    # As in any Functional model: the adapter is still one, and training goes on.
    assert loaded.get_layer("lesion_logits").lora_enabled
    assert int(loaded.optimizer.iterations) == 3
    loaded.fit(images, targets, verbose=0)
    assert int(loaded.optimizer.iterations) == 4


# === Mixed precision ===


def test_loss_is_scaled_in_half_precision(
    make_plain, make_images, make_targets, tmp_path
):
    model = make_plain(dtype="mixed_float16")
    compile_model(model)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.optimizer, keras.optimizers.LossScaleOptimizer)
    assert loaded.dtype_policy.name == "mixed_float16"
    assert loaded.get_layer("ct_stage0_block0").compute_dtype == "float16"
    history = loaded.fit(make_images(loaded), make_targets(loaded), verbose=0).history
    assert np.isfinite(history["loss"]).all()
    compile_model(loaded)  # a fresh optimizer is wrapped again
    assert isinstance(loaded.optimizer, keras.optimizers.LossScaleOptimizer)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_loss_is_not_scaled_where_it_need_not_be(policy, make_plain):
    model = make_plain(dtype=policy)
    compile_model(model)
    assert not isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


# === Reading ===


def test_summary_names_layers_by_modality(model):
    lines = []
    model.summary(print_fn=lambda line, **_: lines.append(line), line_length=120)
    text = "\n".join(lines)
    for name in ("ct_stem_conv", "skin_stage0_block1", "lesion_logits", "nodule_head"):
        assert name in text
    assert "mifa_stage0_block1" in text
    assert f"{model.count_params():,}" in text


def test_layer_names_say_which_modality_they_read(model):
    shared = ("presence", "mifa_", "fused_", "lesion_", "nodule_")
    for layer in model.layers:
        assert layer.name.startswith(("ct", "skin", *shared)), layer.name
