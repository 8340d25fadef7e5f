"""MAIL and Robust-MAIL: size, switches, numbers against the equations, randomness."""

import json

import keras
import numpy as np
import pytest

import drifa_keras as dk
import oracle
from drifa_keras import DRIFANet, MAILNet, MultimodalModel, RobustMAILNet, models
from drifa_keras.layers import AttentionNoise, freeze_randomness
from harness import as_numpy, expected_heads, randomise, trace_nothing
from harness_mail import (
    conv_function,
    expected_emcam,
    expected_erla_block,
    norm_symbols,
)

SIZE = 16
SKIN, CT = (SIZE, SIZE, 3), (SIZE, SIZE, 1)
TWO = {"skin": SKIN, "ct": CT}
TASKS = {"lesion": 3, "nodule": 2}
TINY = {"filters": (4,), "groups": 2, "stem": "small", "dropout_after": ((0, 0),)}
# A fourth of four filters a group is random.
ROBUST = {**TINY, "filters": (8,)}

# Of the authors' network, for two 128x128x3 images and heads of 5 and 7.
RELEASED_PARAMETERS = 11_424_384
# It has alpha1, alpha2 (a number a channel each) and global_scale2 in its four
# attention layers, but never uses them.
UNUSED = 2 * (64 + 128 + 256 + 512) + 4
FOUR = ("mail", "mail_released", "robust_mail", "robust_mail_released")


def large(preset):
    shape = (128, 128, 3)
    return MultimodalModel.from_preset(
        preset, {"a": shape, "b": shape}, {"five": 5, "seven": 7}
    )


@pytest.fixture(scope="module")
def released():
    return large("mail_released")


@pytest.fixture(scope="module")
def drifa():
    return models.cost(large("drifa_resnet18_released"))


def test_released_preset_has_the_parameters_that_the_released_code_uses(released):
    # Each task adds the temperature of its head.
    assert released.count_params() == RELEASED_PARAMETERS - UNUSED + 2


@pytest.mark.parametrize("preset", FOUR)
def test_costs_less_than_drifa_net_by_what_the_abstract_claims(preset, drifa):
    counted = models.cost(large(preset))
    assert counted.multiply_adds <= (1 - 0.72) * drifa.multiply_adds
    assert counted.parameters <= (1 - 0.78) * drifa.parameters


def test_released_preset_multiply_adds(released):
    assert models.cost(released).multiply_adds == pytest.approx(0.657e9, rel=0.001)


def test_default_preset_leaves_out_the_biases_in_front_of_a_normalisation(released):
    biases = 0
    channels = 64
    for filters in (64, 64, 128, 128, 256, 256, 512, 512):
        # In each of two EMILA four biases of MSGDC and one of the projection; one
        # behind them, and one in a projected shortcut.
        biases += (filters + 2 * channels + filters) + 4 * filters + 2 * filters
        biases += filters + (filters if filters != channels else 0)
        channels = filters
    # EMCAM has a scale of its own where the released code uses one twice.
    scales = 64 + 128 + 256 + 512
    assert large("mail").count_params() == (
        released.count_params() - 2 * biases + scales
    )


def test_places_its_layers_as_the_released_code(released):
    names = {layer.name for layer in released.layers}
    assert sorted(name for name in names if name.startswith("emcam")) == [
        f"emcam_stage{stage}_block1" for stage in range(4)
    ]
    assert sorted(name for name in names if "dropout" in name) == [
        f"{modality}_stage{stage}_block0_dropout"
        for modality in "ab"
        for stage in (1, 2, 3)
    ]
    projected = {
        layer.name
        for layer in released.layers
        if getattr(layer, "shortcut_conv", None) is not None
    }
    assert projected == {f"{m}_stage{s}_block0" for m in "ab" for s in (1, 2, 3)}


def test_released_robust_preset_has_noise_but_no_random_filters():
    model = RobustMAILNet.from_preset("robust_mail_released", TWO, TASKS, **TINY)
    assert model.random_ratio == 0 and model.noise_stddev == 0.6
    block = model.get_layer("ct_stage0_block0")
    assert block.emila1.msgdc.random_ratio == 0
    assert block.emila1.noise.released and not block.emila1.noise.learn_weight


def test_robust_preset_has_both():
    model = RobustMAILNet.from_preset("robust_mail", TWO, TASKS, **ROBUST)
    block = model.get_layer("ct_stage0_block0")
    assert block.emila1.msgdc.random_ratio == 0.25
    assert not block.emila1.noise.released and block.emila1.noise.learn_weight
    fusion = model.get_layer("emcam_stage0_block1")
    assert fusion.emsca.msgdc.random_ratio == 0.25
    assert isinstance(fusion.noise, AttentionNoise)


@pytest.mark.parametrize("preset", FOUR)
def test_preset_has_its_class(preset):
    assert models.preset_class(preset) in (MAILNet, RobustMAILNet)
    model = MultimodalModel.from_preset(preset, {"ct": CT}, {"x": 2}, **ROBUST)
    assert type(model) is models.preset_class(preset)
    with pytest.raises(ValueError, match=r"belongs to .*MAILNet, not to DRIFANet"):
        DRIFANet.from_preset(preset, TWO, TASKS)


def test_tiny_presets_have_the_size_of_drifa_tiny():
    shapes = {"a": (32, 32, 3), "b": (32, 32, 1)}
    drifa, *mails = (
        MultimodalModel.from_preset(preset, shapes, TASKS)
        for preset in ("drifa_tiny", "mail_tiny", "robust_mail_tiny")
    )
    for model in mails:
        for argument in ("filters", "stem", "dropout", "dropout_after"):
            assert getattr(model, argument) == getattr(drifa, argument)
        assert model.norm_momentum == drifa.norm_momentum
        assert model.get_layer("a_stage2_block1").output.shape == (None, 4, 4, 64)
    mail, robust = mails
    assert not mail.random_ratio and not mail.noise_stddev
    # A fourth of the filters is random, in each of the groups too.
    kernel = robust.get_layer("a_stage0_block0").emila1.msgdc.pointwise.kernel
    assert kernel.shape[-1] == 12


VARIANTS = {
    "one grey modality": ({"ct": CT}, {"x": 2}, {}),
    "two of different channels": (TWO, TASKS, {}),
    "three modalities": ({"c": CT, "a": SKIN, "b": CT}, {"z": 2, "x": 4, "y": 3}, {}),
    "no emcam": (TWO, TASKS, {"emcam": False}),
    "no mfifa": (TWO, TASKS, {"emcam": {"mfifa": False}}),
    "no emsca": (TWO, TASKS, {"emcam": {"emsca": False}}),
    "spatial transform": (TWO, TASKS, {"emcam": {"dct": "spatial"}}),
    "fusion at the end": (TWO, TASKS, {"fusion": "last"}),
    "fusion at every block": (TWO, TASKS, {"fusion": "every_block"}),
    "released": (TWO, TASKS, {"released": True}),
    "random filters": (TWO, TASKS, {"random_ratio": 0.5}),
    "noise": (TWO, TASKS, {"noise_stddev": 0.3}),
    "groups": (TWO, TASKS, {"groups": 4}),
    "resnet stem": (TWO, TASKS, {"stem": "resnet"}),
    "no dropout": (TWO, TASKS, {"dropout": 0.0}),
    "modality dropout": (TWO, TASKS, {"modality_dropout": 0.3}),
    "norm momentum": (TWO, TASKS, {"norm_momentum": 0.5}),
    "no rescaling": (TWO, TASKS, {"rescaling": None}),
}


@pytest.mark.parametrize("case", VARIANTS)
def test_variant_builds_and_round_trips(case):
    modalities, tasks, arguments = VARIANTS[case]
    model = MAILNet(modalities, tasks, **{**TINY, **arguments})
    assert list(model.modalities) == sorted(modalities)
    assert {name: tuple(x.shape) for name, x in model.output.items()} == {
        task: (None, classes) for task, classes in tasks.items()
    }
    config = json.loads(json.dumps(model.get_config()))
    again = MAILNet.from_config(config)
    assert json.loads(json.dumps(again.get_config())) == config
    assert [tuple(w.shape) for w in again.weights] == [
        tuple(w.shape) for w in model.weights
    ]
    assert [layer.name for layer in again.layers] == [
        layer.name for layer in model.layers
    ]
    assert models.cost(model).multiply_adds > 0
    for name, value in arguments.items():
        assert getattr(model, name) == value


def test_robust_network_round_trips():
    model = RobustMAILNet(TWO, TASKS, random_ratio=0.5, **TINY)
    again = RobustMAILNet.from_config(json.loads(json.dumps(model.get_config())))
    assert again.get_config() == model.get_config()
    assert again.random_ratio == 0.5 and again.noise_stddev == 0.6


def expected_outputs(model, images, presence):
    """The network of the equations, stage by stage."""
    stride = 2 if model.stem == "resnet" else 1
    streams = {}
    for name in sorted(images):
        x = images[name].astype("float64") / 255
        x = conv_function(model.get_layer(f"{name}_stem_conv"), strides=stride)(x)
        norm = norm_symbols(model.get_layer(f"{name}_stem_norm"))
        streams[name] = oracle.max_pool(oracle.relu(oracle.batch_norm(x, *norm)))
    for stage in (0, 1):
        for block in (0, 1):
            for name, x in streams.items():
                layer = model.get_layer(f"{name}_stage{stage}_block{block}")
                streams[name] = expected_erla_block(layer, x)
        fused = expected_emcam(
            model.get_layer(f"emcam_stage{stage}_block1"),
            list(streams.values()),
            presence,
        )
        streams = dict(zip(streams, fused, strict=True))
    return expected_heads(model, streams)


@pytest.mark.parametrize(
    ("preset", "stem"),
    [
        ("mail", "small"),
        ("mail_released", "resnet"),
        ("robust_mail", "small"),
        ("robust_mail_released", "resnet"),
    ],
)
def test_whole_network_agrees_with_the_equations(preset, stem, make_images):
    model = MultimodalModel.from_preset(
        preset, TWO, TASKS, filters=(8, 16), groups=2, stem=stem, dropout_after=(1,)
    )
    randomise(model, scale=0.3)
    trace_nothing(model)
    images = make_images(model)
    images["ct"][1] = 0
    images["skin"][2] = 0
    presence = np.array([[1, 1], [0, 1], [1, 0], [1, 1]])
    with freeze_randomness(model):
        outputs = model.predict(images, verbose=0)
        expected = expected_outputs(model, images, presence)
    for task in model.tasks:
        np.testing.assert_allclose(outputs[task], expected[task], atol=1e-4, rtol=0)
        # Saturated outputs would agree whatever came before them.
        assert expected[task].min() > 1e-3
        assert expected[task].max() < 1 - 1e-3


@pytest.fixture(scope="module")
def robust():
    keras.utils.set_random_seed(1)
    return RobustMAILNet(TWO, TASKS, **ROBUST)


def test_robust_predictions_differ_and_agree_while_frozen(robust, make_images):
    images = make_images(robust)

    def predict():
        return robust.predict(images, batch_size=3, verbose=0)["lesion"]

    assert np.abs(predict() - predict()).max() > 1e-5
    with freeze_randomness(robust):
        first = predict()
        np.testing.assert_allclose(predict(), first, atol=1e-6)
        # A batch of another size sees the same network.
        alone = robust.predict({n: x[3:] for n, x in images.items()}, verbose=0)
        np.testing.assert_allclose(alone["lesion"], first[3:], atol=1e-5)
        logits = robust.logits_model.predict(images, verbose=0)["lesion"]
        again = robust.logits_model.predict(images, verbose=0)["lesion"]
        np.testing.assert_allclose(logits, again, atol=1e-6)
    assert np.abs(predict() - predict()).max() > 1e-5


def test_seed_of_keras_repeats_everything(make_images):
    def outputs():
        keras.utils.set_random_seed(11)
        model = RobustMAILNet({"ct": CT}, TASKS, **ROBUST)
        images = make_images(model)
        return [model.predict(images, verbose=0)["lesion"] for _ in range(2)]

    first, second = outputs(), outputs()
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert np.abs(first[0] - first[1]).max() > 1e-5


@pytest.mark.parametrize("preset", FOUR)
def test_saves_and_loads(preset, tmp_path, make_images):
    model = MultimodalModel.from_preset(preset, TWO, TASKS, **ROBUST)
    randomise(model, scale=0.3)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    images = make_images(model)
    with freeze_randomness(model), freeze_randomness(loaded):
        wanted, outputs = model(images), loaded(images)
    for task in TASKS:
        np.testing.assert_allclose(
            as_numpy(outputs[task]), as_numpy(wanted[task]), atol=1e-5
        )


@pytest.mark.parametrize("preset", ["mail", "robust_mail"])
def test_trains(preset, make_images, make_targets):
    model = MultimodalModel.from_preset(preset, TWO, TASKS, **ROBUST)
    model.compile(keras.optimizers.Adam(1e-3), "categorical_crossentropy")
    images, targets = make_images(model), make_targets(model)
    images["skin"][0] = 0
    before = [as_numpy(v) for v in model.trainable_variables]
    history = model.fit(images, targets, batch_size=2, epochs=2, verbose=0)
    assert np.all(np.isfinite(history.history["loss"]))
    moved = [
        np.any(as_numpy(v) != old)
        for v, old in zip(model.trainable_variables, before, strict=True)
    ]
    assert np.mean(moved) > 0.9


def test_frozen_layers_and_lora_are_kept(tmp_path, make_images):
    model = MAILNet(TWO, TASKS, **TINY)
    model.get_layer("ct_stage0_block0").trainable = False
    model.get_layer("lesion_logits").enable_lora(2)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert not loaded.get_layer("ct_stage0_block0").trainable
    assert loaded.get_layer("lesion_logits").lora_enabled
    images = make_images(model)
    outputs, wanted = (m.predict(images, verbose=0) for m in (loaded, model))
    np.testing.assert_allclose(outputs["lesion"], wanted["lesion"], atol=1e-5)


@pytest.mark.parametrize("emcam", [True, False])
def test_absent_modality_has_no_say(emcam, make_images):
    model = MAILNet(TWO, TASKS, emcam=emcam, **TINY)
    images = make_images(model)
    outputs = dk.predict(model, {"skin": images["skin"]})
    blank = {**images, "ct": np.zeros_like(images["ct"])}
    wanted = model.predict(blank, verbose=0)
    full = model.predict(images, verbose=0)
    for task in TASKS:
        np.testing.assert_allclose(outputs[task], wanted[task], atol=1e-6)
        assert np.abs(full[task] - wanted[task]).max() > 1e-6


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_outputs_are_float32_probabilities(policy, make_images):
    model = RobustMAILNet(TWO, TASKS, dtype=policy, **ROBUST)
    outputs = model.predict(make_images(model), verbose=0)
    for task, classes in TASKS.items():
        assert outputs[task].dtype == np.float32
        assert outputs[task].shape == (4, classes)
        np.testing.assert_allclose(outputs[task].sum(axis=1), 1, atol=1e-6)
    assert model.get_layer("ct_stage0_block0").compute_dtype == (
        policy.removeprefix("mixed_")
    )


def test_logits_model_agrees_with_the_heads(make_images):
    model = MAILNet(TWO, TASKS, **TINY)
    images = make_images(model)
    logits = model.logits_model.predict(images, verbose=0)
    outputs = model.predict(images, verbose=0)
    for task in TASKS:
        powers = np.exp(logits[task])
        np.testing.assert_allclose(
            powers / powers.sum(axis=1, keepdims=True), outputs[task], atol=1e-5
        )


def test_unknown_argument_is_named():
    for cls in (MAILNet, RobustMAILNet):
        with pytest.raises(
            ValueError, match=f"'filter' of {cls.__name__}.*'emcam'.*'filters'"
        ):
            cls(TWO, TASKS, filter=(4,))


def test_unknown_part_of_emcam_is_named():
    with pytest.raises(ValueError, match="`emcam`.*mfifa.*'mifa'"):
        MAILNet(TWO, TASKS, emcam={"mifa": False})


def test_filters_that_the_groups_do_not_divide():
    with pytest.raises(ValueError, match="16 groups.* 24"):
        MAILNet(TWO, TASKS, filters=(16, 24), dropout_after=())


def test_network_of_random_filters_alone():
    with pytest.raises(ValueError, match="random_ratio.*below 1.*trained"):
        RobustMAILNet(TWO, TASKS, random_ratio=1)


def test_maps_that_do_not_meet():
    with pytest.raises(ValueError, match="equal size.*ct.*skin"):
        MAILNet({"ct": (32, 32, 1), "skin": SKIN}, TASKS, **TINY)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("fusion", "first"),
        ("stem", "large"),
        ("filters", ()),
        ("dropout_after", (7,)),
        ("groups", 0),
    ],
)
def test_bad_argument_is_named(argument, value):
    with pytest.raises(ValueError, match=argument):
        MAILNet(TWO, TASKS, **{**TINY, argument: value})
