"""DRIFA-Net: its size, its switches, and its numbers against the equations."""

import json

import keras
import numpy as np
import pytest

import oracle
from drifa_keras import DRIFANet, layers, models
from harness import exact, expected_heads, expected_mfa, expected_mifa, randomise

SIZE = 16
SKIN, CT = (SIZE, SIZE, 3), (SIZE, SIZE, 1)
# "The layers' sum" of the authors' network, for two 128x128x3 images, heads of 5 and 7.
RELEASED_PARAMETERS = 53_884_868


@pytest.fixture(scope="module")
def released():
    shape = (128, 128, 3)
    return DRIFANet.from_preset(
        "drifa_resnet18_released", {"a": shape, "b": shape}, {"five": 5, "seven": 7}
    )


@pytest.fixture(scope="module")
def plain_released():
    shape = (128, 128, 3)
    return DRIFANet.from_preset(
        "drifa_resnet18_released",
        {"a": shape, "b": shape},
        {"five": 5, "seven": 7},
        mfa=False,
        mifa=False,
    )


def test_released_preset_has_the_parameters_of_the_released_code(released):
    # Beyond the layers of the released code each task has exactly one weight: the
    # temperature of its head, which is 1 and not trained.
    assert released.count_params() == RELEASED_PARAMETERS + 2
    temperatures = [w for w in released.weights if w.path.endswith("temperature")]
    assert len(temperatures) == 2
    assert not any(w.trainable for w in temperatures)
    of_heads = sum(
        released.get_layer(f"{t}_head").count_params() for t in ("five", "seven")
    )
    assert of_heads == 2
    assert models.cost(released).parameters == released.count_params()


def test_released_preset_multiply_adds(released):
    assert models.cost(released).multiply_adds == pytest.approx(2.40e9, rel=0.005)


def test_plain_two_branch_network(plain_released):
    counted = models.cost(plain_released)
    assert counted.parameters == pytest.approx(22.39e6, rel=0.0005)
    assert counted.multiply_adds == pytest.approx(1.184e9, rel=0.0005)
    assert not any(
        isinstance(layer, (layers.MFA, layers.MIFA)) for layer in plain_released.layers
    )


def test_released_preset_places_its_layers_as_the_released_code(released):
    names = {layer.name for layer in released.layers}
    places = [f"stage{s}_block{b}" for s in range(4) for b in range(2)]
    for place in places:
        assert f"mifa_{place}" in names
        assert (f"a_{place}_mfa" in names) == (place != "stage3_block1")
        assert (f"a_{place}_dropout" in names) == (not place.startswith("stage3"))
    assert {"fused_dropout", "a_stem_mfa", "b_stem_mfa"} <= names
    mifa = released.get_layer("mifa_stage0_block0").get_config()
    assert mifa["local_window"] is None
    assert mifa["shared_fc"] is True


def test_paper_preset_places_its_layers_as_the_paper():
    model = DRIFANet.from_preset(
        "drifa_resnet18", {"a": SKIN}, {"x": 2}, filters=(2, 2, 2, 2), stem="small"
    )
    names = {layer.name for layer in model.layers}
    assert [name for name in sorted(names) if name.startswith("mifa")] == [
        "mifa_stage3_block1"
    ]
    assert [name for name in sorted(names) if name.endswith("dropout")] == [
        "a_stage1_block1_dropout",
        "a_stage2_block1_dropout",
        "fused_dropout",
    ]
    assert "a_stage3_block1_mfa" in names
    assert model.get_layer("mifa_stage3_block1").get_config()["local_window"] == 3
    assert model.get_layer("fused_dropout").rate == 0.25


TWO = {"skin": SKIN, "ct": CT}
VARIANTS = {
    "one grey modality": ({"ct": CT}, {"x": 2}, {}),
    "one colour modality": ({"skin": SKIN}, {"x": 2}, {}),
    "two of different channels": (TWO, {"x": 2, "y": 3}, {}),
    "three modalities, three tasks": (
        {"c": CT, "a": SKIN, "b": CT},
        {"z": 2, "x": 4, "y": 3},
        {},
    ),
    "three modalities, one task": ({"c": CT, "a": SKIN, "b": CT}, {"x": 2}, {}),
    "one modality, three tasks": ({"a": SKIN}, {"z": 2, "x": 4, "y": 3}, {}),
    "a modality and a task of one name": ({"skin": SKIN, "ct": CT}, {"skin": 3}, {}),
    "names with digits, dashes, underscores": ({"7-T_mri": CT}, {"0-grade_a": 2}, {}),
    "no mfa": (TWO, {"x": 2}, {"mfa": False}),
    "no mifa": (TWO, {"x": 2}, {"mifa": False}),
    "plain": (TWO, {"x": 2}, {"mfa": False, "mifa": False}),
    **{
        f"mfa without {switch}": (TWO, {"x": 2}, {"mfa": {switch: False}})
        for switch in ("hifa", "clia", "omega_d", "omega_l", "omega_c")
    },
    "mfa with relu": (TWO, {"x": 2}, {"mfa": {"activation": "relu"}}),
    **{
        f"mifa without {switch}": (TWO, {"x": 2}, {"mifa": {switch: False}})
        for switch in ("mgifa", "mlifa", "omega_d", "omega_l", "omega_c")
    },
    "released mlifa": (TWO, {"x": 2}, {"mifa": {"local_window": None}}),
    "wide window": (TWO, {"x": 2}, {"mifa": {"local_window": 5}}),
    "shared fc": (TWO, {"x": 2}, {"mifa": {"shared_fc": True}}),
    "fusion at every stage": (TWO, {"x": 2}, {"fusion": "every_stage"}),
    "fusion at every block": (TWO, {"x": 2}, {"fusion": "every_block"}),
    "resnet stem": (TWO, {"x": 2}, {"stem": "resnet"}),
    "two stages": (TWO, {"x": 2}, {"filters": (2, 4)}),
    "no dropout": (TWO, {"x": 2}, {"dropout": 0.0}),
    "dropout after a stage": (TWO, {"x": 2}, {"dropout_after": (0,)}),
    "dropout after a block": (TWO, {"x": 2}, {"dropout_after": ((0, 0),)}),
    "dropout after both": (TWO, {"x": 2}, {"dropout_after": [0, [0, 0]]}),
    "no final mfa": (TWO, {"x": 2}, {"final_mfa": False}),
    "modality dropout": (TWO, {"x": 2}, {"modality_dropout": 0.3}),
    "norm momentum": (TWO, {"x": 2}, {"norm_momentum": 0.5}),
    "no rescaling": (TWO, {"x": 2}, {"rescaling": None}),
}


@pytest.mark.parametrize("case", VARIANTS)
def test_variant_builds_and_round_trips(case):
    modalities, tasks, arguments = VARIANTS[case]
    arguments = {"filters": (4,), "stem": "small", "dropout_after": (), **arguments}
    model = DRIFANet(modalities, tasks, **arguments)
    # Streams go in sorted order, whatever order the dict had.
    assert list(model.modalities) == sorted(modalities)
    assert list(model.input) == sorted(modalities)
    assert {name: tuple(x.shape) for name, x in model.output.items()} == {
        task: (None, classes) for task, classes in tasks.items()
    }
    config = json.loads(json.dumps(model.get_config()))
    again = DRIFANet.from_config(config)
    assert json.loads(json.dumps(again.get_config())) == config
    assert [tuple(w.shape) for w in again.weights] == [
        tuple(w.shape) for w in model.weights
    ]
    assert [layer.name for layer in again.layers] == [
        layer.name for layer in model.layers
    ]
    assert models.cost(model).multiply_adds > 0


def weights_of(**arguments):
    arguments = {"filters": (4,), "stem": "small", "dropout_after": (), **arguments}
    return DRIFANet(TWO, {"x": 2}, **arguments).count_params()


@pytest.mark.parametrize(
    ("arguments", "fewer"),
    [
        # 4 channels, 2 streams. A stream has 7 MFA: one in the stem, two in each of two
        # blocks, one behind each block.
        ({"mfa": {"hifa": False}}, 14 * (6 * 16 + 5 * 4 + 1)),
        ({"mfa": {"clia": False}}, 14 * (2 * 16 + 2 * 4 + 4)),
        ({"mfa": {"omega_d": False}}, 14),
        ({"mfa": {"omega_l": False}}, 14 * 4),
        ({"mfa": {"omega_c": False}}, 14 * 4),
        ({"final_mfa": False}, 2 * (8 * 16 + 7 * 4 + 1 + 2 * 4)),
        ({"mifa": {"mgifa": False}}, 3 * 16 + 3 * 4 + 1),
        ({"mifa": {"mlifa": False}}, 3 * 16 + 3 * 4 + 4),
        ({"mifa": {"omega_d": False}}, 1),
        ({"mifa": {"omega_l": False}}, 4),
        ({"mifa": {"omega_c": False}}, 2 * 4),
        ({"mifa": {"shared_fc": True}}, 2 * (2 * 16 + 2 * 4)),
        ({"mifa": {"local_window": None}}, 16 + 4),  # one K a modality, not three
        ({"mifa": False}, 2 * (3 * 16 + 3 * 4) + 1 + 4 + 2 * 4),
    ],
)
def test_switch_removes_the_weights_it_should(arguments, fewer):
    assert weights_of() - weights_of(**arguments) == fewer


def conv_symbols(layer):
    return exact(layer.kernel), exact(layer.bias)


def norm_symbols(layer):
    return (
        exact(layer.gamma),
        exact(layer.beta),
        exact(layer.moving_mean),
        exact(layer.moving_variance),
        layer.epsilon,
    )


def expected_block(layer, x):
    shortcut = None
    if layer.shortcut_conv is not None:
        shortcut = (
            *conv_symbols(layer.shortcut_conv),
            norm_symbols(layer.shortcut_norm),
        )
    return oracle.rra_block(
        x,
        conv_symbols(layer.conv1),
        lambda y: expected_mfa(layer.mfa1, y),
        norm_symbols(layer.norm1),
        conv_symbols(layer.conv2),
        lambda y: expected_mfa(layer.mfa2, y),
        norm_symbols(layer.norm2),
        shortcut,
        layer.strides,
    )


def expected_outputs(model, images, presence, *, stem, mifa, fused_at, last_mfa):
    """The network of the equations page: Algorithm 1, stage by stage."""
    stride = 2 if stem == "resnet" else 1
    streams = {}
    for name in sorted(images):
        x = images[name].astype("float64") / 255
        x = oracle.conv2d(
            x, *conv_symbols(model.get_layer(f"{name}_stem_conv")), strides=stride
        )
        x = expected_mfa(model.get_layer(f"{name}_stem_mfa"), x)
        norm = norm_symbols(model.get_layer(f"{name}_stem_norm"))
        streams[name] = oracle.max_pool(oracle.relu(oracle.batch_norm(x, *norm)))
    for stage in (0, 1):
        for block in (0, 1):
            for name, x in streams.items():
                prefix = f"{name}_stage{stage}_block{block}"
                x = expected_block(model.get_layer(prefix), x)
                if last_mfa or (stage, block) != (1, 1):
                    x = expected_mfa(model.get_layer(f"{prefix}_mfa"), x)
                streams[name] = x
            if (stage, block) in fused_at:
                fused = expected_mifa(
                    model.get_layer(f"mifa_stage{stage}_block{block}"),
                    list(streams.values()),
                    presence,
                    **mifa,
                )
                streams = dict(zip(streams, fused, strict=True))
    return expected_heads(model, streams)


@pytest.mark.parametrize(
    ("preset", "style"),
    [
        (
            "drifa_resnet18",
            {"stem": "small", "mifa": {}, "fused_at": {(1, 1)}, "last_mfa": True},
        ),
        (
            "drifa_resnet18_released",
            {
                "stem": "resnet",
                "mifa": {"local_window": None, "shared_fc": True},
                "fused_at": {(0, 0), (0, 1), (1, 0), (1, 1)},
                "last_mfa": False,
            },
        ),
    ],
)
def test_whole_network_agrees_with_the_equations(preset, style, make_images):
    model = DRIFANet.from_preset(
        preset,
        {"skin": SKIN, "ct": CT},
        {"lesion": 3, "nodule": 2},
        filters=(4, 8),
        stem=style["stem"],
        dropout_after=((0, 0), 1),
    )
    randomise(model, scale=0.3)
    images = make_images(model)
    images["ct"][1] = 0
    images["skin"][2] = 0
    presence = np.array([[1, 1], [0, 1], [1, 0], [1, 1]])
    outputs = model.predict(images, verbose=0)
    expected = expected_outputs(model, images, presence, **style)
    for task in model.tasks:
        np.testing.assert_allclose(outputs[task], expected[task], atol=1e-4, rtol=0)
        # Saturated outputs would agree whatever came before them.
        assert expected[task].min() > 1e-3
        assert expected[task].max() < 1 - 1e-3


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_outputs_are_float32_probabilities(policy, make_plain, make_images):
    model = make_plain(mifa=True, dtype=policy)
    outputs = model.predict(make_images(model), verbose=0)
    assert set(outputs) == set(model.tasks)
    for task, classes in model.tasks.items():
        assert outputs[task].dtype == np.float32
        assert outputs[task].shape == (4, classes)
        np.testing.assert_allclose(outputs[task].sum(axis=1), 1, atol=1e-6)
    assert model.get_layer("ct_stage0_block0").compute_dtype == (
        policy.removeprefix("mixed_")
    )
    assert {w.dtype for w in model.trainable_variables} == {"float32"}
    assert model.dtype_policy.name == policy


def test_global_dtype_policy_is_taken_and_kept(make_plain):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = make_plain()
    keras.config.set_dtype_policy("float32")
    assert model.get_config()["dtype"] == "mixed_bfloat16"
    again = DRIFANet.from_config(model.get_config())
    assert again.get_layer("ct_stage0_block0").compute_dtype == "bfloat16"


def test_uint8_images_are_cast(make_plain, make_images):
    model = make_plain()
    images = make_images(model)
    as_bytes = {name: array.astype("uint8") for name, array in images.items()}
    outputs, of_bytes = (model.predict(x, verbose=0) for x in (images, as_bytes))
    for task in model.tasks:
        np.testing.assert_allclose(of_bytes[task], outputs[task], atol=1e-6)


def test_rescaling_is_inside(make_plain, make_images):
    model = make_plain(rescaling=1 / 255)
    raw = make_plain(rescaling=None)
    raw.set_weights(model.get_weights())
    images = make_images(model)
    scaled = {name: array / 255 for name, array in images.items()}
    outputs, of_raw = model.predict(images, verbose=0), raw.predict(scaled, verbose=0)
    for task in model.tasks:
        np.testing.assert_allclose(of_raw[task], outputs[task], atol=1e-5)


def test_presets_are_listed_and_described():
    listed = models.presets()
    assert {"drifa_resnet18", "drifa_resnet18_released", "drifa_tiny"} <= set(listed)
    assert all(text and "\n" not in text for text in listed.values())
    assert models.preset_class("drifa_tiny") is DRIFANet


def test_overrides_replace_the_arguments_of_a_preset():
    model = DRIFANet.from_preset(
        "drifa_tiny", {"a": SKIN}, {"x": 2}, filters=(2,), dropout_after=(0,), name="n"
    )
    assert model.filters == (2,)
    assert model.name == "n"
    assert model.stem == "small"  # the preset's own
    assert model.norm_momentum == 0.9
    # Nothing leaks into the next network of that preset.
    other = DRIFANet.from_preset("drifa_tiny", {"a": SKIN}, {"x": 2}, mfa=False)
    assert other.filters == (16, 32, 64)
    assert other.dropout_after == (1,)


def test_a_dict_of_switches_is_copied():
    switches = {"clia": False}
    model = DRIFANet(
        {"a": SKIN}, {"x": 2}, filters=(2,), dropout_after=(), mfa=switches
    )
    switches["clia"] = True
    assert model.get_config()["mfa"] == {"clia": False}
    model.get_config()["mfa"]["clia"] = True
    assert model.get_config()["mfa"] == {"clia": False}
