"""Layers and backbones of keras-cv work beside ours when a user passes them in."""

import keras
import numpy as np
import pytest

import drifa_keras as dk


@pytest.mark.filterwarnings("ignore")
def test_keras_cv_backbone_and_layer_with_attention(tmp_path):
    keras_cv = pytest.importorskip("keras_cv", reason="the extra keras-cv is absent")
    backbone = keras_cv.models.DenseNetBackbone(
        stackwise_num_repeats=[1, 1],
        compression_ratio=0.5,
        growth_rate=8,
        include_rescaling=False,
        input_shape=(32, 32, 3),
    )
    inputs = [keras.Input((32, 32, 3), name=name) for name in ("first", "second")]
    first, second = (backbone(x) for x in inputs)
    second = keras_cv.layers.SqueezeAndExcite2D(second.shape[-1])(second)
    fused = dk.layers.MIFA()([dk.layers.MFA()(first), second])
    features = dk.layers.StreamConcatenate()(fused)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(features))
    images = np.random.default_rng(0).random((2, 2, 32, 32, 3)).astype("float32")
    expected = model.predict(list(images), verbose=0)
    assert np.ptp(expected, axis=0).max() > 0
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        reloaded.predict(list(images), verbose=0), expected, atol=1e-5
    )
