"""DRIFA-SegNet, SegNet, U-Net, and what other fusions make of SegNet."""

import keras
import numpy as np
import pytest
from keras import ops

import drifa_keras as dk
from drifa_keras.models import DRIFASegNet, MultimodalModel, cost
from drifa_keras.models.baselines import (
    CAFSegNet,
    GLoRIASegNet,
    MTFMASegNet,
    MTTUSegNet,
    SegNet,
    UNet,
)
from harness import trace_nothing

FOUR = dict.fromkeys(("flair", "t1", "t1ce", "t2"), (16, 16, 1))
TASKS = {"tumor": 4}
SMALL = {
    DRIFASegNet: {"filters": (4, 8), "convolutions": (1, 2)},
    SegNet: {"filters": (4, 8), "convolutions": (1, 2)},
    UNet: {"filters": (4, 8, 12)},
    MTTUSegNet: {
        "filters": (4, 8, 12),
        "blocks": (1, 2, 1),
        "units": 8,
        "depth": 2,
        "heads": 2,
    },
    CAFSegNet: {"filters": (4, 8), "convolutions": (1, 2)},
    GLoRIASegNet: {"filters": (4, 8), "convolutions": (1, 2), "units": 6},
    MTFMASegNet: {
        "filters": (4, 8),
        "convolutions": (1, 2),
        "units": 8,
        "depth": 2,
        "heads": 2,
    },
}
FUSIONS = (DRIFASegNet, CAFSegNet, GLoRIASegNet, MTFMASegNet)


def make(cls, modalities=FOUR, **arguments):
    keras.utils.set_random_seed(0)
    return cls(modalities, TASKS, **{**SMALL[cls], **arguments})


def images(modalities=FOUR, count=4, seed=0):
    generator = np.random.default_rng(seed)
    return {
        name: generator.integers(1, 256, (count, *shape)).astype("float32")
        for name, shape in modalities.items()
    }


def labels(count=4, seed=1):
    drawn = np.random.default_rng(seed).integers(0, 4, (count, 16, 16))
    return {"tumor": np.eye(4, dtype="float32")[drawn]}


@pytest.mark.parametrize("cls", SMALL)
def test_trains_saves_and_loads(cls, tmp_path):
    model = make(cls)
    assert model.maps == ("tumor",)
    assert model.output["tumor"].shape == (None, 16, 16, 4)
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    model.fit(images(), labels(), verbose=0)
    wanted = model.predict(images(), verbose=0)["tumor"]
    np.testing.assert_allclose(wanted.sum(axis=-1), 1, atol=1e-5)
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(reloaded) is cls
    assert reloaded.get_config() == model.get_config()
    np.testing.assert_allclose(
        reloaded.predict(images(), verbose=0)["tumor"], wanted, atol=1e-6
    )
    logits = reloaded.logits_model.predict(images(), verbose=0)["tumor"]
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(p, wanted, atol=1e-6)


@pytest.mark.parametrize("cls", SMALL)
def test_one_and_three_channels(cls):
    two = {"rgb": (16, 16, 3), "ct": (16, 16, 1)}
    needs_two = cls in FUSIONS and cls is not DRIFASegNet
    for modalities in [two] if needs_two else [{"rgb": (16, 16, 3)}, two]:
        x = images(modalities)
        answers = make(cls, modalities).predict(x, verbose=0)["tumor"]
        assert answers.shape == (4, 16, 16, 4)
        assert np.ptp(answers[..., 0]) > 0


@pytest.mark.parametrize("cls", SMALL)
def test_without_dropout(cls):
    rates = {"dropout": 0}
    if cls in (MTTUSegNet, MTFMASegNet):
        rates["transformer_dropout"] = 0
    layers = make(cls, **rates).layers
    assert not any(isinstance(layer, keras.layers.Dropout) for layer in layers)
    assert any(isinstance(layer, keras.layers.Dropout) for layer in make(cls).layers)


@pytest.mark.parametrize("cls", SMALL)
def test_doubts_every_pixel(cls):
    found = dk.uncertainty.predict(make(cls), images(), passes=3)["tumor"]
    assert found.mean.shape == (4, 16, 16, 4)
    assert found.predictive_entropy.shape == (4, 16, 16)
    assert found.variance.max() > 0


@pytest.mark.parametrize("cls", FUSIONS)
def test_absent_modalities_play_no_part(cls):
    model = make(cls, **({"fusion": "every_stage"} if cls is DRIFASegNet else {}))
    x = images()
    given = {name: x[name] for name in ("flair", "t2")}
    found = dk.predict(model, given)["tumor"]
    assert np.abs(found - model.predict(x, verbose=0)["tumor"]).max() > 1e-4
    # The encoder of what is absent can be anything.
    for layer in model.layers:
        if layer.name.startswith(("t1_", "t1ce_")) and layer.weights:
            layer.set_weights([w + 1 for w in layer.get_weights()])
    np.testing.assert_allclose(dk.predict(model, given)["tumor"], found, atol=1e-6)


def test_attention_stands_where_it_is_asked_for():
    def names(**arguments):
        return {layer.name for layer in make(DRIFASegNet, **arguments).layers}

    gates = {f"{name}_stage{s}_mfa" for name in FOUR for s in (0, 1)}
    assert gates | {"mifa_stage1"} <= names() and "mifa_stage0" not in names()
    assert {"mifa_stage0", "mifa_stage1"} <= names(fusion="every_stage")
    assert not gates & names(mfa=False)
    assert "mifa_stage1" not in names(mifa=False)
    partial = make(DRIFASegNet, mfa={"hifa": False})
    assert partial.get_layer("t1_stage0_mfa").hifa is None
    assert {"skip_stage0_sum", "skip_stage1_sum"} <= names()
    assert not any(name.startswith("skip_") for name in names(skips=False))


@pytest.mark.parametrize("cls", FUSIONS)
def test_skips_reach_the_decoder(cls):
    """With a last map of zeros, the encoders speak through what is skipped alone."""
    for skips in (True, False):
        model = make(cls, skips=skips, dropout=0)
        first = model.get_layer("unpool1")
        first.call = lambda inputs, presence=None: ops.zeros_like(inputs[1], "float32")
        spread = np.ptp(model.predict(images(), verbose=0)["tumor"], axis=(0, 1, 2))
        assert (spread.max() > 1e-3) == skips


def test_one_modality_without_attention_is_segnet():
    """But for the 1x1 convolution behind the fusion."""
    one = {"flair": (16, 16, 1)}
    ours = make(DRIFASegNet, one, mfa=False, mifa=False, skips=False, dropout=0)
    plain = make(SegNet, one, dropout=0)
    extra = ["fused_conv0", "fused_conv0_norm"]
    generator = np.random.default_rng(0)
    weights = [w + generator.random(w.shape, "float32") for w in plain.get_weights()]
    plain.set_weights(weights)
    fused = [ours.get_layer(name) for name in extra]
    kernel = np.eye(8, dtype="float32")[None, None]
    fused[0].set_weights([kernel, np.zeros(8, "float32")])
    zeros, ones = np.zeros(8, "float32"), np.ones(8, "float32")
    fused[1].set_weights([ones, zeros, zeros, ones - fused[1].epsilon])
    rest = iter(plain.get_weights())
    for layer in ours.layers:
        if layer.name not in extra and layer.weights:
            layer.set_weights([next(rest) for _ in layer.weights])
    x = images(one)
    np.testing.assert_allclose(
        ours.predict(x, verbose=0)["tumor"],
        plain.predict(x, verbose=0)["tumor"],
        atol=1e-5,
    )


def test_mixed_precision():
    model = make(DRIFASegNet, dtype="mixed_bfloat16")
    assert model.get_layer("t1_stage0_conv0").output.dtype == "bfloat16"
    assert model.output["tumor"].dtype == "float32"
    assert np.isfinite(model.predict(images(), verbose=0)["tumor"]).all()


def test_multiply_adds():
    """3x3 convolutions at 16, 8, 4 px down and up, and the head."""
    model = make(SegNet, {"flair": (16, 16, 1)})
    encoder = 9 * (16**2 * 4 + 8**2 * (4 * 8 + 8 * 8))
    decoder = 9 * (8**2 * (8 * 8 + 8 * 4) + 16**2 * 4 * 4)
    assert cost(model).multiply_adds == encoder + decoder + 16**2 * 4 * 4


def test_multiply_adds_of_the_transformer():
    """Two images of 16 px: level by level, then 4x4 tokens, and up again."""
    two = dict.fromkeys(("flair", "t2"), (16, 16, 1))
    model = make(MTTUSegNet, two)
    encoder = 16**2 * 9 * (2 * 4 + 2 * 4 * 4) + 8**2 * 9 * (4 * 8 + 4 * 8 * 8)
    encoder += 4**2 * 9 * (8 * 12 + 2 * 12 * 12)
    # Queries, keys, values and projection; scores and their use; two of 64 units.
    layer = 16 * (4 * 8 * 8 + 2 * 8 * 64) + 2 * 16 * 16 * 8
    bottom = 16 * 9 * (12 * 8 + 8 * 12 + 12 * 12) + 2 * layer
    decoder = 4**2 * 12 * 8 + 4 * 16 * 8 * 8 + 8**2 * (16 * 8 + 9 * 2 * 8 * 8)
    decoder += 8**2 * 8 * 4 + 4 * 64 * 4 * 4 + 16**2 * (8 * 4 + 9 * 2 * 4 * 4)
    head = 16**2 * 4 * 4
    assert cost(model).multiply_adds == encoder + bottom + decoder + head


def test_multiply_adds_of_fusions():
    """Beside those of encoders and decoder, 1x1 convolutions at 16, 8 and 4 px."""
    two = dict.fromkeys(("flair", "t2"), (16, 16, 1))
    encoders = 2 * 9 * (16**2 * 4 + 8**2 * (4 * 8 + 8 * 8))
    decoder = 9 * (8**2 * (8 * 8 + 8 * 4) + 16**2 * 4 * 4) + 16**2 * 4 * 4
    both = encoders + decoder + 16**2 * (2 * 4) * 4 + 8**2 * (2 * 8) * 8
    # Representations of 6; scores and their use, both ways.
    words = 2 * 16 * 8 * 6 + 2 * (2 * 16 * 16 * 6)
    found = cost(make(GLoRIASegNet, two)).multiply_adds
    assert found == both + words + 16 * (2 * 12) * 8
    # Tokens of 8, and in each of two blocks four projections and a network.
    block = 16 * (4 * 8 * 8 + 2 * 8 * 32) + 2 * 16 * 16 * 8
    found = cost(make(MTFMASegNet, two)).multiply_adds
    assert found == both + 2 * (16 * 8 * 8 + 2 * block) + 16 * (2 * 8) * 8


def test_what_guides_starts_from_nothing():
    """CAF's encoders are plain ones until `gamma` has moved."""
    model = make(CAFSegNet)
    x = images()
    before = model.predict(x, verbose=0)["tumor"]
    for stage in (0, 1):
        layer = model.get_layer(f"co_attention_stage{stage}")
        layer.kernel.assign(layer.kernel + 1.0)
    np.testing.assert_allclose(model.predict(x, verbose=0)["tumor"], before, atol=1e-6)
    layer.gamma.assign(layer.gamma + 1.0)
    assert np.abs(model.predict(x, verbose=0)["tumor"] - before).max() > 1e-4


def test_contrast_is_a_loss_of_training():
    model = make(GLoRIASegNet, contrastive_weight=0.1)
    model.compile("sgd", "categorical_crossentropy")
    trace_nothing(model)
    logs = model.fit(images(), labels(), verbose=0).history
    model(images(), training=True)
    assert len(model.losses) == 1 and float(model.losses[0]) > 0
    assert np.isfinite(logs["loss"]).all()
    model(images(), training=False)
    assert not model.losses


def test_presets():
    for preset in (
        "drifa_segnet_tiny",
        "segnet_tiny",
        "unet_tiny",
        "mttu_segnet_tiny",
        "gloria_segnet_tiny",
        "caf_segnet_tiny",
        "mtf_ma_segnet_tiny",
    ):
        shapes = dict.fromkeys(FOUR, (32, 32, 1))
        model = MultimodalModel.from_preset(preset, shapes, TASKS)
        assert model.maps == ("tumor",)


def test_a_head_of_pixels_beside_one_of_the_case():
    inputs, streams, _ = MultimodalModel.open_streams({"ct": (8, 8, 1)})
    x = keras.layers.Conv2D(4, 3, padding="same")(streams["ct"])
    features = {"seg": x, "kind": keras.layers.GlobalAveragePooling2D()(x)}
    model = MultimodalModel(inputs, features, {"ct": (8, 8, 1)}, {"seg": 3, "kind": 2})
    assert model.maps == ("seg",)
    found = model.predict({"ct": np.full((2, 8, 8, 1), 9.0)}, verbose=0)
    assert found["seg"].shape == (2, 8, 8, 3) and found["kind"].shape == (2, 2)


@pytest.mark.parametrize(
    ("cls", "arguments", "message"),
    [
        (SegNet, {"filters": (4, 8, 8, 8, 8)}, "a positive number for each stage"),
        (DRIFASegNet, {"filters": ()}, "a positive number for each stage|each stage"),
        (MTTUSegNet, {"blocks": (1, 1)}, "`filters` and `blocks` hold a positive"),
        (MTTUSegNet, {"modalities": {"a": (18, 16, 1)}}, "divisible by 4"),
        (CAFSegNet, {"modalities": {"a": (16, 16, 1)}}, "two modalities.*Use `SegNet`"),
        (GLoRIASegNet, {"contrastive_weight": -1}, "must not be negative"),
        (MTFMASegNet, {"modalities": {"a": (6, 16, 1), "b": (6, 16, 1)}}, "by 4"),
        (UNet, {"filters": (4, 0)}, "positive number of channels for each level"),
        (DRIFASegNet, {"fusion": "every_block"}, r"\['last', 'every_stage'\]"),
        (
            DRIFASegNet,
            {"modalities": {"a": (16, 16, 1), "b": (32, 32, 1)}},
            "must have one size to be segmented together",
        ),
        (UNet, {"modalities": {"a": (18, 16, 1)}}, "divisible by 4. .*18x16.*20x16"),
        (SegNet, {"modalities": {"a": (16, 6, 1)}}, "divisible by 4. .*16x6.*16x8"),
    ],
)
def test_bad_arguments(cls, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(cls, **{"modalities": FOUR, **arguments})


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (np.zeros((4, 8, 8), int), r"every pixel.*\(batch, 16, 16\).*\(4, 8, 8\)"),
        (np.zeros((4, 16, 16, 3)), "must have 4 columns"),
        (np.full((4, 16, 16), 4), r"must lie in 0..3. Received: values from 4 to 4"),
        (np.zeros(4, int), r"every pixel.*Received: shape \(4,\)"),
    ],
)
def test_bad_targets(targets, message):
    model = make(UNet)
    model.compile("adam", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match=message):
        model.fit(images(), {"tumor": targets}, verbose=0)
