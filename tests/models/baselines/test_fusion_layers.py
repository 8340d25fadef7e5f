"""The layers of the comparators against their equations."""

import math

import keras
import numpy as np
import pytest

from drifa_keras.models.baselines.attention_fusion import AttentionFusion
from drifa_keras.models.baselines.co_attention import CoAttention
from drifa_keras.models.baselines.combined_logits import CombinedLogits
from drifa_keras.models.baselines.combined_softmax import CombinedSoftmax
from drifa_keras.models.baselines.global_alignment import GlobalAlignment
from drifa_keras.models.baselines.local_alignment import LocalAlignment
from drifa_keras.models.baselines.mean_max_pooling import MeanMaxPooling2D
from drifa_keras.models.baselines.modality_embedding import ModalityEmbedding
from harness import (
    MASKS,
    as_numpy,
    assert_close,
    built,
    exact,
    random_map,
    random_maps,
    run_layer_test,
)

SHAPE = (2, 3, 4, 4)


def softmax(values):
    powers = np.exp(np.asarray(values, "float64") - np.max(values))
    return powers / powers.sum()


def presence_of(count, masked):
    return np.array(MASKS[count], "float32") if masked else None


# === GLoRIA ===


def context_of(words, regions, temperature=4.0):
    """What each word finds in the regions: the double softmax, word by word."""
    scores = np.array([[v @ t for t in words] for v in regions])
    over_words = np.array([softmax(row) for row in scores])
    return np.array(
        [
            sum(
                a * v
                for a, v in zip(softmax(temperature * column), regions, strict=True)
            )
            for column in over_words.T
        ]
    )


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_contexts_of_gloria(count, masked):
    xs, mask = random_maps(count, SHAPE), MASKS[count] if masked else None
    xs = [x / 2 for x in xs]
    outputs = LocalAlignment()(xs, presence=presence_of(count, masked))
    for sample in range(2):
        for i, x in enumerate(xs):
            words = x[sample].reshape(12, 4).astype("float64")
            found = [
                context_of(words, xs[j][sample].reshape(12, 4).astype("float64"))
                for j in range(count)
                if j != i and (mask is None or mask[sample][j])
            ]
            expected = sum(found) / len(found) if found else np.zeros((12, 4))
            assert_close(outputs[i][sample], expected.reshape(3, 4, 4))


def cosine(a, b):
    return a @ b / math.sqrt((a @ a) * (b @ b))


def cross_entropy(matrix, both):
    """Of the rows and of the columns of a matrix whose diagonal is right."""
    there = [index for index, value in enumerate(both) if value]
    total = 0.0
    for rows in (matrix, matrix.T):
        for b in there:
            total -= math.log(softmax([rows[b][r] for r in there])[there.index(b)])
    return total / max(len(there), 1)


BATCH = [[1, 1, 1], [1, 0, 1], [1, 1, 0], [1, 1, 1], [0, 1, 1]]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_local_contrast(count, masked):
    xs = [x / 2 for x in random_maps(count, (5, 2, 3, 4))]
    mask = np.array(BATCH)[:, :count] if masked else np.ones((5, count))
    layer = LocalAlignment(weight=0.5)
    layer(xs, presence=mask.astype("float32") if masked else None, training=True)
    (loss,) = layer.losses
    tokens = [x.reshape(5, 6, 4).astype("float64") for x in xs]
    losses = []
    for i, words in enumerate(tokens):
        for j, regions in enumerate(tokens):
            if i == j:
                continue
            matrix = np.zeros((5, 5))
            for b in range(5):
                for r in range(5):
                    found = context_of(words[r], regions[b])
                    matrix[b, r] = 10 * math.log(
                        sum(
                            math.exp(5 * cosine(t, c))
                            for t, c in zip(words[r], found, strict=True)
                        )
                    )
            losses.append(cross_entropy(matrix, mask[:, i] * mask[:, j]))
    assert_close(loss, 0.5 * np.mean(losses), 1e-4)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_global_contrast(count, masked):
    xs = random_maps(count, (5, 1, 1, 6))
    mask = np.array(BATCH)[:, :count] if masked else np.ones((5, count))
    layer = GlobalAlignment(weight=2.0)
    presence = mask.astype("float32") if masked else None
    outputs = layer(xs, presence=presence, training=True)
    assert_close(outputs, xs, 0)
    (loss,) = layer.losses
    vectors = [x.reshape(5, 6).astype("float64") for x in xs]
    losses = [
        cross_entropy(
            np.array([[10 * cosine(a, b) for b in vectors[j]] for a in vectors[i]]),
            mask[:, i] * mask[:, j],
        )
        for i in range(count)
        for j in range(i + 1, count)
    ]
    assert_close(loss, 2 * np.mean(losses), 1e-4)


ALIGNMENTS = pytest.mark.parametrize(
    ("cls", "shape"), [(LocalAlignment, (3, 2, 2, 4)), (GlobalAlignment, (3, 1, 1, 4))]
)


@ALIGNMENTS
def test_contrast_of_features_that_are_zero_has_a_gradient(cls, shape):
    images = random_maps(2, shape)
    images[0][0] = 0
    inputs = [keras.Input(shape[1:]) for _ in images]
    features = [keras.layers.Dense(4, use_bias=False)(x) for x in inputs]
    outputs = [keras.layers.Flatten()(x) for x in cls(weight=1.0)(features)]
    model = keras.Model(inputs, keras.layers.Concatenate()(outputs))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    before = model.get_weights()
    model.train_on_batch(images, model.predict_on_batch(images))  # the contrast alone
    for old, new in zip(before, model.get_weights(), strict=True):
        assert np.isfinite(new).all() and np.any(new != old)


@ALIGNMENTS
def test_no_contrast_outside_training_or_without_weight(cls, shape):
    for weight, training in ((1.0, False), (0.0, True)):
        layer = cls(weight=weight)
        layer(random_maps(2, shape), training=training)
        assert not layer.losses


@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_local_alignment_behaves(weight, tmp_path):
    run_layer_test(
        LocalAlignment,
        {"weight": weight, "temperature": 3.0},
        [SHAPE] * 2,
        tmp_path,
        presence=True,
        expected_output_shape=[SHAPE] * 2,
        expected_params=0,
    )


def test_global_alignment_behaves(tmp_path):
    run_layer_test(
        GlobalAlignment,
        {"weight": 0.1},
        [(2, 1, 1, 4)] * 2,
        tmp_path,
        presence=True,
        expected_params=0,
        any_size=False,
    )


def test_one_modality_has_nothing_to_align_with():
    with pytest.raises(ValueError, match="at least two"):
        LocalAlignment()(random_maps(1))
    with pytest.raises(ValueError, match="at least two"):
        GlobalAlignment()(random_maps(1, (2, 1, 1, 4)))
    with pytest.raises(ValueError, match="1, 1, channels"):
        GlobalAlignment()(random_maps(2))


# === MTTU-Net ===


def test_embedding_adds_where_and_what():
    xs = random_maps(2, SHAPE)
    layer = built(ModalityEmbedding(), [x.shape for x in xs])
    position, modality = exact(layer.position), exact(layer.modality)
    expected = [x + position[None] + modality[i] for i, x in enumerate(xs)]
    assert_close(layer(xs), expected)


def test_embedding_behaves(tmp_path):
    run_layer_test(
        ModalityEmbedding,
        {},
        [SHAPE] * 2,
        tmp_path,
        expected_output_shape=[SHAPE] * 2,
        expected_params=3 * 4 * 4 + 2 * 4,
        any_size=False,
    )


def test_embedding_of_unknown_size():
    with pytest.raises(ValueError, match="known size"):
        ModalityEmbedding()([keras.Input((None, None, 4))] * 2)


def test_mean_and_maximum():
    x = random_map(SHAPE)
    expected = np.concatenate([x.mean(axis=(1, 2)), x.max(axis=(1, 2))], axis=-1)
    assert_close(MeanMaxPooling2D()(x), expected[:, None, None])


def test_mean_max_pooling_behaves(tmp_path):
    run_layer_test(
        MeanMaxPooling2D,
        {},
        SHAPE,
        tmp_path,
        expected_output_shape=(2, 1, 1, 8),
        expected_params=0,
    )


# === CAF ===


def test_co_attention_changes_nothing_at_first():
    xs = random_maps(2, SHAPE)
    assert_close(CoAttention()(xs), xs, 0)


@pytest.mark.parametrize("masked", [False, True])
def test_co_attention_adds_what_is_found(masked):
    """The attention itself is tested where it is."""
    xs, presence = random_maps(2, SHAPE), presence_of(2, masked)
    layer = built(CoAttention(units=2), [x.shape for x in xs])
    found = super(CoAttention, layer).call(xs, presence=presence)
    gamma = exact(layer.gamma)
    expected = [
        x + gamma[i] * as_numpy(y)
        for i, (x, y) in enumerate(zip(xs, found, strict=True))
    ]
    if masked:
        for i, x in enumerate(expected):
            x[presence[:, i] == 0] = 0
    assert_close(layer(xs, presence=presence), expected)


def test_co_attention_behaves(tmp_path):
    run_layer_test(
        CoAttention,
        {"units": 2, "key_size": 3},
        [SHAPE] * 2,
        tmp_path,
        presence=True,
        expected_output_shape=[SHAPE] * 2,
        expected_params=2 * (2 * 4 * 2 + 4 * 4 + 2 + 4) + 2,
        # Behind a gamma of 0.
        unmoved=("kernel", "bias"),
        any_size=False,
    )


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_ratio_of_the_fusion(count, masked):
    xs, mask = random_maps(count, SHAPE), MASKS[count] if masked else None
    layer = built(AttentionFusion(), [x.shape for x in xs])
    kernel, bias = exact(layer.conv.kernel), exact(layer.conv.bias)
    outputs = layer(xs, presence=presence_of(count, masked))
    for sample in range(2):
        there = [i for i in range(count) if mask is None or mask[sample][i]]
        stacked = np.zeros((5, 6, count * 4))
        for i in there:
            stacked[1:-1, 1:-1, 4 * i : 4 * i + 4] = xs[i][sample]
        for row, column in np.ndindex(3, 4):
            window = stacked[row : row + 3, column : column + 3]
            scores = np.einsum("abc,abcm->m", window, kernel) + bias
            ratios = softmax([scores[i] for i in there])
            expected = sum(
                r * xs[i][sample, row, column]
                for r, i in zip(ratios, there, strict=True)
            )
            assert_close(outputs[sample, row, column], expected)


def test_attention_fusion_behaves(tmp_path):
    run_layer_test(
        AttentionFusion,
        {},
        [SHAPE] * 3,
        tmp_path,
        presence=True,
        expected_output_shape=SHAPE,
        expected_params=9 * 12 * 3 + 3,
    )


HEADS = [np.array([[1.0, 2.0, -1.0], [0.5, 0.0, 3.0]]), np.array([[0, 0, 4.0]] * 2)]


@pytest.mark.parametrize("masked", [False, True])
def test_combined_prediction_is_the_mean_of_the_heads(masked):
    heads = [*HEADS, random_map((2, 3))]
    # The last head has no image of its own, and is always there.
    mask = [[1, 0], [0, 1]] if masked else [[1, 1], [1, 1]]
    presence = np.array(mask, "float32") if masked else None
    logits = CombinedLogits()([h.astype("float32") for h in heads], presence=presence)
    trained = CombinedLogits()(
        [h.astype("float32") for h in heads], presence=presence, training=True
    )
    outputs = CombinedSoftmax()(logits)
    in_training = CombinedSoftmax()(trained, training=True)
    for sample in range(2):
        own = [h[sample] for h, r in zip(heads, [*mask[sample], 1], strict=True) if r]
        probabilities = np.array([softmax(z) for z in own])
        assert_close(outputs[sample], probabilities.mean(axis=0))
        geometric = np.prod(probabilities, axis=0) ** (1 / len(own))
        assert_close(in_training[sample], geometric)


def test_one_head_has_its_own_logits():
    z = random_map((2, 3))
    assert_close(CombinedLogits()([z, z, z]), z)


def test_combined_layers_behave(tmp_path):
    run_layer_test(
        CombinedLogits,
        {},
        [(2, 3)] * 3,
        tmp_path,
        presence=True,
        expected_output_shape=(2, 3),
        expected_params=0,
        any_size=False,
    )
    run_layer_test(
        CombinedSoftmax,
        {},
        (2, 3),
        tmp_path,
        expected_output_shape=(2, 3),
        expected_params=1,
        unmoved=("temperature",),
    )


def test_logits_of_unequal_tasks():
    with pytest.raises(ValueError, match="equal shape"):
        CombinedLogits()([np.zeros((2, 3)), np.zeros((2, 4))])
