"""The comparators: what they compute, what they are trained on, and what they cost."""

import json
import math

import keras
import numpy as np
import pytest
from keras import ops

import drifa_keras as dk
from drifa_keras.models import MultimodalModel, cost
from drifa_keras.models.baselines import (
    MTFMA,
    CAFNet,
    GLoRIAFusion,
    MTTUNet,
    SingleModalityNet,
)
from drifa_keras.training import compile_model
from drifa_keras.training.adversarial import adversarial_training
from harness import as_numpy, exact, momenta, randomise, trace_nothing

CT, SKIN = (16, 16, 1), (16, 16, 3)
TWO = {"ct": CT, "skin": SKIN}
THREE = {"ct": CT, "mri": CT, "skin": SKIN}
TASKS = {"lesion": 3, "nodule": 2}
READS = {"lesion": "skin", "nodule": "ct"}
SMALL = {"filters": (4, 8), "stem": "small"}
ARGUMENTS = {
    SingleModalityNet: {"task_modality": READS, "dropout_after": ()},
    GLoRIAFusion: {"units": 6},
    MTTUNet: {"units": 8, "depth": 1, "heads": 2, "hidden_units": (6, 5)},
    CAFNet: {},
    MTFMA: {"units": 8, "depth": 2, "heads": 2},
}
FUSIONS = [cls for cls in ARGUMENTS if cls is not SingleModalityNet]

large = pytest.mark.large
COMPILES = ("tensorflow", "jax")  # where a large network takes a minute to begin


def make(cls, modalities=TWO, tasks=TASKS, **arguments):
    return cls(modalities, tasks, **{**SMALL, **ARGUMENTS[cls], **arguments})


@pytest.mark.parametrize(
    "cls",
    [
        # The smallest stands for all in a quick run.
        pytest.param(cls, marks=large(*COMPILES) if cls is MTFMA else large)
        for cls in ARGUMENTS
    ],
)
def test_on_inception_v3(cls):
    """Its maps halve in another way than those of a ResNet."""
    shapes = {"ct": (75, 75, 1), "skin": (80, 75, 3)}
    if cls is CAFNet:  # whose maps have to be of one size
        shapes = dict.fromkeys(shapes, (75, 75, 3))
    model = make(cls, shapes, backbone="inception_v3", norm_momentum=0.8)
    assert set(momenta(model)) == {0.8}
    branches = TASKS if cls is SingleModalityNet else shapes
    names = {layer.name for layer in model.layers}
    assert {f"{branch}_stage2" for branch in branches} <= names
    x = {
        name: np.full((1, *shape), 40 * (i + 1), "float32")
        for i, (name, shape) in enumerate(shapes.items())
    }
    found = model.predict(x, verbose=0)
    assert {task: p.shape for task, p in found.items()} == {
        task: (1, classes) for task, classes in TASKS.items()
    }
    again = cls.from_config(json.loads(json.dumps(model.get_config())))
    again.set_weights(model.get_weights())
    for task, p in again.predict(x, verbose=0).items():
        np.testing.assert_allclose(p, found[task], atol=1e-5)


@pytest.mark.parametrize("cls", ARGUMENTS)
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"dropout": 0.0, "norm_momentum": 0.9, "rescaling": None, "name": "n"},
        {"filters": (4, 4, 8), "stem": "resnet", "modality_dropout": 0.2},
    ],
    ids=str,
)
def test_config_round_trip(cls, arguments):
    model = make(cls, THREE, **arguments)
    config = json.loads(json.dumps(model.get_config()))
    again = cls.from_config(config)
    assert json.loads(json.dumps(again.get_config())) == config
    assert [w.shape for w in again.weights] == [w.shape for w in model.weights]
    assert [x.name for x in again.layers] == [x.name for x in model.layers]
    for name, value in {**ARGUMENTS[cls], **arguments}.items():
        assert getattr(model, name) == value
    outputs = {task: x.shape for task, x in model.output.items()}
    assert outputs == {"lesion": (None, 3), "nodule": (None, 2)}


@pytest.mark.parametrize("cls", FUSIONS)
@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
def test_weights_of_an_absent_stream_cannot_matter(cls, modalities, make_images):
    model = randomise(make(cls, modalities), scale=0.3)
    trace_nothing(model)
    images = make_images(model)
    complete = model.predict(images, verbose=0)
    absent, *others = model.modalities
    there = {name: images[name] for name in others}
    before = dk.predict(model, there)
    names = (f"{absent}_", f"branch_{absent}_")
    own = [layer for layer in model.layers if layer.name.startswith(names)]
    own = [w for layer in own for w in layer.weights]
    assert len(own) > 20
    for weight in own:
        weight.assign(weight + 0.5)
    after, changed = dk.predict(model, there), model.predict(images, verbose=0)
    for task in TASKS:
        np.testing.assert_allclose(after[task], before[task], atol=1e-6)
        assert np.abs(changed[task] - complete[task]).max() > 1e-4
        assert np.abs(complete[task] - before[task]).max() > 1e-4


@pytest.mark.parametrize("cls", ARGUMENTS)
def test_presence_is_a_samples_own(cls, make_images):
    model = randomise(make(cls, THREE), scale=0.3)
    images = make_images(model)
    images["mri"][1] = 0
    mixed = model.predict(images, verbose=0)
    alone = model.predict({n: x[1:2] for n, x in images.items()}, verbose=0)
    for task in TASKS:
        np.testing.assert_allclose(mixed[task][1:2], alone[task], atol=1e-5)


@pytest.mark.parametrize("cls", ARGUMENTS)
def test_layer_names_say_which_modality_they_read(cls):
    shared = ("presence", "fused_", "lesion_", "nodule_", "embedding", "transformer")
    shared += ("mutual", "local_alignment", "hyper_", "co_attention_", "fusion_stage")
    for layer in make(cls).layers:
        if not isinstance(layer, keras.Layer) or layer.name.startswith("get_item"):
            continue
        assert layer.name.startswith(("ct", "skin", "branch_", *shared)), layer.name


@pytest.mark.parametrize("cls", ARGUMENTS)
@pytest.mark.parametrize(
    "policy", [pytest.param("mixed_float16", marks=large), "mixed_bfloat16"]
)
def test_mixed_precision(cls, policy, make_images, make_targets):
    model = make(cls, dtype=policy)
    compile_model(model)
    trace_nothing(model)
    images, targets = make_images(model), make_targets(model)
    assert np.isfinite(model.train_on_batch(images, targets)).all()
    assert {w.dtype for w in model.trainable_variables} == {"float32"}
    for task, values in model.predict(images, verbose=0).items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values.sum(axis=1), 1, atol=1e-6, err_msg=task)
    name = "lesion" if cls is SingleModalityNet else "ct"
    block = model.get_layer(f"{name}_stage0_block0")
    assert block.compute_dtype == policy.removeprefix("mixed_")


@pytest.mark.parametrize("cls", [GLoRIAFusion, CAFNet, MTFMA])
def test_one_modality_has_nothing_to_fuse_with(cls):
    with pytest.raises(ValueError, match=f"{cls.__name__} fuses at least two"):
        make(cls, {"ct": CT})


def test_mttu_net_of_one_modality(make_images):
    model = make(MTTUNet, {"ct": CT})
    assert np.isfinite(model.predict(make_images(model), verbose=0)["lesion"]).all()


@pytest.mark.parametrize(
    ("cls", "arguments", "message"),
    [
        (GLoRIAFusion, {"filters": (4,)}, "last but one"),
        (GLoRIAFusion, {"contrastive_weight": -1}, "contrastive_weight"),
        (MTTUNet, {"units": 9}, "`heads`"),
        (MTFMA, {"heads": 3}, "`heads`"),
        (CAFNet, {"filters": ()}, "`filters`"),
        (MTFMA, {"backbone": "vgg16"}, r"\['resnet18', 'inception_v3'\].*'vgg16'"),
        (CAFNet, {"stem": "huge"}, "stem='huge'"),
        (SingleModalityNet, {"dropout_after": (7,)}, "`dropout_after`"),
        (SingleModalityNet, {"task_modality": {"lesion": "ct"}}, "'nodule'.*any of"),
        (SingleModalityNet, {"task_modality": {"lesion": "pet"}}, "unknown 'pet'"),
        (SingleModalityNet, {"task_modality": {"grade": "ct"}}, "unknown 'grade'"),
        (SingleModalityNet, {"task_modality": None}, "task_modality="),
    ],
)
def test_bad_arguments(cls, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(cls, **arguments)


@pytest.mark.parametrize("cls", [MTTUNet, CAFNet])
def test_maps_that_do_not_meet(cls):
    with pytest.raises(ValueError, match="equal height"):
        make(cls, {"ct": (32, 32, 1), "skin": SKIN})


@pytest.mark.parametrize("cls", [GLoRIAFusion, MTFMA])
def test_maps_that_need_not_meet(cls, make_images):
    model = make(cls, {"ct": (32, 32, 1), "skin": SKIN})
    assert np.isfinite(model.predict(make_images(model), verbose=0)["lesion"]).all()


# === One network a task ===


def test_single_is_a_plain_network_for_each_task(make_images):
    model = randomise(make(SingleModalityNet, THREE, dropout_after=(1,)), scale=0.3)
    images = make_images(model)
    images["skin"][2] = 0
    outputs = model.predict(images, verbose=0)
    for task, name in READS.items():
        plain = dk.DRIFANet(
            {name: THREE[name]}, {task: TASKS[task]}, mfa=False, mifa=False, **SMALL
        )
        own = [layer for layer in model.layers if layer.name.startswith(f"{task}_")]
        weights = [w for layer in own for w in layer.get_weights()]
        plain.set_weights(weights)
        wanted = plain.predict({name: images[name]}, verbose=0)[task]
        there = [0, 1, 3]
        np.testing.assert_allclose(outputs[task][there], wanted[there], atol=1e-5)
    # Without its image a task has the bias of its head to go by.
    temperature = exact(model.get_layer("lesion_head").temperature)
    powers = np.exp(exact(model.get_layer("lesion_logits").bias) / temperature)
    np.testing.assert_allclose(outputs["lesion"][2], powers / powers.sum(), atol=1e-5)
    changed = model.predict({**images, "mri": 255 - images["mri"]}, verbose=0)
    np.testing.assert_allclose(changed["lesion"], outputs["lesion"], atol=1e-6)


def test_single_takes_the_modality_of_the_tasks_name():
    tasks = {"ct": 2, "skin": 3}
    model = make(SingleModalityNet, tasks=tasks, task_modality=None)
    assert model.task_modality == {"ct": "ct", "skin": "skin"}
    model = make(SingleModalityNet, {"mri": CT}, tasks, task_modality=None)
    assert model.task_modality == {"ct": "mri", "skin": "mri"}


# === Losses ===

WEIGHTS = {"lesion": [1.0, 0.0, 2.0, 0.5], "nodule": [0.0, 1.0, 1.0, 0.0]}


def sample_weights():
    return {task: np.array(values, "float32") for task, values in WEIGHTS.items()}


def cross_entropies(probabilities, targets):
    return -np.log((as_numpy(probabilities) * targets).sum(axis=-1))


def test_uncertainty_weighs_the_tasks_of_mttu_net(make_images, make_targets):
    model = make(MTTUNet)
    compile_model(model, loss_weights={"lesion": 1.0, "nodule": 3.0})
    model.log_variances.assign([0.4, -0.7])
    outputs, y = model.predict(make_images(model), verbose=0), make_targets(model)
    for given in (None, sample_weights()):
        losses = [
            factor
            * np.mean(
                cross_entropies(outputs[task], y[task])
                * (1 if given is None else given[task])
            )
            for task, factor in (("lesion", 1.0), ("nodule", 3.0))
        ]
        p = {task: ops.convert_to_tensor(values) for task, values in outputs.items()}
        got = model.compute_loss(None, y, p, given, training=True)
        s = [0.4, -0.7]
        wanted = sum(
            math.exp(-a) / 2 * loss + a for a, loss in zip(s, losses, strict=True)
        )
        assert float(as_numpy(got)) == pytest.approx(wanted, rel=1e-5)
        # What is measured outside training knows nothing of it.
        got = model.compute_loss(None, y, p, given, training=False)
        assert float(as_numpy(got)) == pytest.approx(sum(losses), rel=1e-5)


def test_uncertainties_are_trained_and_saved(make_images, make_targets, tmp_path):
    model = make(MTTUNet, dropout=0.0, transformer_dropout=0.0)
    compile_model(model, learning_rate=0.01)
    trace_nothing(model)
    images, targets = make_images(model), make_targets(model)
    history = model.fit(images, targets, epochs=3, verbose=0).history
    assert set(history) == {
        "loss",
        *(f"{task}_{name}" for task in TASKS for name in ("loss", "accuracy")),
    }
    # The losses are below 2 at once, and the uncertainty goes down.
    assert (as_numpy(model.log_variances) < -0.01).all()
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        as_numpy(again.log_variances), as_numpy(model.log_variances)
    )
    assert cost(again).parameters == again.count_params() == model.count_params()


def heads_of(model, branches):
    return keras.Model(
        model.input,
        {
            task: [model.get_layer(f"{task}_{name}_logits").output for name in branches]
            for task in model.tasks
        },
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_heads_of_caf_net_are_trained_one_by_one(weighted, make_images, make_targets):
    model = randomise(make(CAFNet, dropout=0.0), scale=0.3)
    compile_model(model, loss_weights={"lesion": 1.0, "nodule": 3.0})
    images, y = make_images(model), make_targets(model)
    images["ct"][1] = 0
    weights = sample_weights() if weighted else None
    branches = ["branch_ct", "branch_skin", "hyper"]
    outputs = model(images, training=True)
    logits = heads_of(model, branches)(images, training=True)
    there = np.array([[1, 1, 1], [0, 1, 1], [1, 1, 1], [1, 1, 1]])
    wanted = 0.0
    for task, factor in (("lesion", 1.0), ("nodule", 3.0)):
        losses = [cross_entropies(ops.softmax(head), y[task]) for head in logits[task]]
        losses = (np.stack(losses, axis=1) * there).sum(axis=1) / there.sum(axis=1)
        wanted += factor * np.mean(losses * (weights[task] if weighted else 1))
    got = model.compute_loss(None, y, outputs, weights, training=True)
    assert float(as_numpy(got)) == pytest.approx(wanted, rel=1e-4)
    # The combined prediction has another loss, which is never above it.
    predicted = model(images, training=False)
    combined = model.compute_loss(None, y, predicted, None, training=False)
    assert np.isfinite(float(as_numpy(combined)))


def test_caf_net_takes_integer_labels(make_images, make_targets):
    model = make(CAFNet, dropout=0.0)
    images, y = make_images(model), make_targets(model)
    losses = []
    for kind, targets in (
        ("categorical_crossentropy", y),
        ("sparse_categorical_crossentropy", {t: v.argmax(1) for t, v in y.items()}),
    ):
        model.compile(keras.optimizers.SGD(0.0), dict.fromkeys(TASKS, kind))
        losses.append(model.train_on_batch(images, targets)[0])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_prediction_of_caf_net_is_the_mean_of_its_heads(make_images):
    model = randomise(make(CAFNet), scale=0.3)
    for task in TASKS:
        model.get_layer(f"{task}_head").temperature.assign(1.0)
    images = make_images(model)
    images["skin"][0] = 0
    outputs = model.predict(images, verbose=0)
    heads = heads_of(model, ["branch_ct", "branch_skin", "hyper"])
    logits = heads.predict(images, verbose=0)
    raw = model.logits_model.predict(images, verbose=0)
    there = np.array([[1, 0, 1]] + [[1, 1, 1]] * 3, "float64")
    for task in TASKS:
        p = np.stack([as_numpy(ops.softmax(z)) for z in logits[task]], axis=1)
        mean = (p * (there / there.sum(axis=1, keepdims=True))[:, :, None]).sum(axis=1)
        np.testing.assert_allclose(outputs[task], mean, atol=1e-5)
        np.testing.assert_allclose(as_numpy(ops.softmax(raw[task])), mean, atol=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_contrast_of_gloria_is_added_in_training_alone(
    weight, make_images, make_targets
):
    model = make(GLoRIAFusion, contrastive_weight=weight, dropout=0.0)
    model.compile(
        keras.optimizers.SGD(0.0), dict.fromkeys(TASKS, "categorical_crossentropy")
    )
    trace_nothing(model)
    names = {layer.name for layer in model.layers}
    assert ("global_alignment" in names) == bool(weight)
    images, targets = make_images(model), make_targets(model)
    model(images, training=True)
    added = sum(float(as_numpy(loss)) for loss in model.losses)
    assert len(model.losses) == (2 if weight else 0)
    history = model.fit(images, targets, batch_size=4, verbose=0).history
    of_tasks = sum(history[f"{task}_loss"][0] for task in TASKS)
    assert history["loss"][0] == pytest.approx(of_tasks + added, rel=1e-4)
    measured = model.evaluate(images, targets, verbose=0, return_dict=True)
    assert measured["loss"] == pytest.approx(
        sum(measured[f"{task}_loss"] for task in TASKS), rel=1e-5
    )
    # The passes that look for adversarial images add nothing.
    with adversarial_training(model, eps=1e-6, steps=2):
        attacked = model.fit(images, targets, batch_size=4, verbose=0).history
    assert attacked["loss"][0] == pytest.approx(history["loss"][0], rel=1e-3)


@pytest.mark.parametrize("cls", ARGUMENTS)
def test_adversarial_training_and_frozen_weights(cls, make_images, make_targets):
    model = make(cls, dropout=0.0)
    compile_model(model, learning_rate=0.01)
    images, targets = make_images(model), make_targets(model)
    with adversarial_training(model, eps=8 / 255, steps=1):
        history = model.fit(images, targets, batch_size=4, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    frozen = make(cls, trainable=False)
    assert not frozen.trainable_weights
    assert not cls.from_config(frozen.get_config()).trainable_weights


# === Cost ===


def resnet_multiply_adds(channels, filters, size):
    """A small stem, and two blocks of two 3x3 convolutions a stage."""
    total, before, size = size**2 * 9 * channels * filters[0], filters[0], size // 2
    for stage, count in enumerate(filters):
        if stage:
            size //= 2
            total += size**2 * before * count  # the shortcut
        elif before != count:
            raise AssertionError
        total += size**2 * 9 * (before * count + 3 * count * count)
        before = count
    return total


def test_multiply_adds():
    # Maps of 8x8x4 and 4x4x8 for both modalities.
    encoders = sum(resnet_multiply_adds(c, (4, 8), 16) for c in (1, 3))
    assert cost(make(SingleModalityNet)).multiply_adds == encoders + 8 * (3 + 2)
    gloria = 2 * (64 * 4 * 6 + 8 * 6)  # local and global projections
    gloria += 2 * 2 * 64 * 64 * 6  # scores and contexts in both directions
    gloria += 4 * 6 * (3 + 2)
    assert cost(make(GLoRIAFusion)).multiply_adds == encoders + gloria
    mttu = 2 * 16 * 9 * 8 * 8  # tokens
    mttu += 32 * 3 * 64 + 32 * 32 * 16  # attention
    mttu += 32 * (64 + 2 * 8 * 64)  # projection, and the two layers of the MLP
    mttu += 2 * (64 * 6 + 6 * 5) + 5 * (3 + 2)  # heads read 2 (8 + 8) from each
    assert cost(make(MTTUNet)).multiply_adds == encoders + mttu
    mtf = 2 * 16 * 8 * 8  # tokens
    mtf += 2 * (32 * 3 * 64 + 2 * 16 * 16 * 16)  # attention of two blocks
    mtf += 2 * 32 * (64 + 2 * 4 * 64)
    mtf += 16 * (3 + 2)
    assert cost(make(MTFMA)).multiply_adds == encoders + mtf
    caf = 0
    for cells, count, units in ((64, 4, 1), (16, 8, 1)):
        caf += 2 * cells * (2 * count * units + count * count)  # projections
        caf += 2 * cells * cells * (units + count)  # attention
        caf += cells * 9 * (2 * count) * 2  # ratios
        caf += cells * 9 * count * count  # hyper-branch
    caf += 16 * 9 * 4 * 8  # its way down
    caf += (8 + 8 + 8) * (3 + 2)
    assert cost(make(CAFNet)).multiply_adds == encoders + caf


def test_presets_have_the_size_of_the_others():
    """Tiny ones are about drifa_tiny's, those of 128 px about drifa_resnet18's."""
    modalities = {"a": (32, 32, 3), "b": (32, 32, 1)}
    tasks = {"a": 2, "b": 3}
    for name in ("single", "late_concat", "gloria", "mttu_net", "caf", "mtf_ma"):
        tiny = MultimodalModel.from_preset(f"{name}_tiny", modalities, tasks)
        assert type(tiny) is dk.models.preset_class(name)
        assert 1e5 < tiny.count_params() < 1.2e6
        assert tiny.get_config()["filters"] == [16, 32, 64]
        assert tiny.get_config()["norm_momentum"] == 0.9
