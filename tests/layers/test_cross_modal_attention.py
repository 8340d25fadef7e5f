"""CrossModalAttention: against its equation, with modalities absent, and its size."""

import keras
import numpy as np
import pytest

from drifa_keras.layers import CrossModalAttention
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

SHAPE = (2, 3, 5, 4)
SWITCHES = [
    {},
    {"heads": 2},
    {"units": 6, "heads": 2},
    {"own": True},
    {"shared": True},
    {"own": True, "shared": True, "heads": 4},
]


def softmax(scores):
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def expected_attention(layer, xs, presence=None):
    """The equation, token by token and head by head."""
    matrices, bias = exact(layer.kernel), exact(layer.bias)
    value_matrices, value_bias = exact(layer.value_kernel), exact(layer.value_bias)
    xs = [np.asarray(x, "float64") for x in xs]
    outputs = [np.zeros(x.shape) for x in xs]
    width = matrices.shape[-1] // layer.heads
    value_width = xs[0].shape[-1] // layer.heads
    for sample in range(len(xs[0])):
        there = [presence is None or presence[sample][j] for j in range(len(xs))]
        for i, x in enumerate(xs):
            keys, values = [], []
            for j, other in enumerate(xs):
                if there[j] and (layer.own or j != i):
                    place = 0 if layer.shared else j
                    for token in other[sample].reshape(-1, x.shape[-1]):
                        keys.append(token @ matrices[2 * place + 1])
                        values.append(token @ value_matrices[place] + value_bias[place])
            if not keys or not there[i]:
                continue
            place = 0 if layer.shared else i
            for cell in np.ndindex(*x.shape[1:3]):
                query = x[sample][cell] @ matrices[2 * place] + bias[place]
                for head in range(layer.heads):
                    part = slice(head * width, (head + 1) * width)
                    scores = [query[part] @ key[part] / np.sqrt(width) for key in keys]
                    part = slice(head * value_width, (head + 1) * value_width)
                    mean = softmax(np.array(scores)) @ np.array(values)[:, part]
                    outputs[i][sample][cell][part] = mean
    return outputs


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_equation(switches, count, masked):
    xs = random_maps(count, SHAPE)
    layer = built(CrossModalAttention(**switches), [x.shape for x in xs])
    mask = MASKS[count] if masked else None
    presence = None if mask is None else np.array(mask, "float32")
    assert_close(layer(xs, presence=presence), expected_attention(layer, xs, mask))


def test_maps_of_unequal_sizes():
    xs = [random_map((2, 3, 5, 4)), random_map((2, 2, 2, 4), seed=1)]
    layer = built(CrossModalAttention(heads=2), [x.shape for x in xs])
    assert_close(layer(xs), expected_attention(layer, xs))


def test_self_attention_equals_that_of_keras():
    """Of one map; Keras' layer has a projection behind it and a bias of the keys."""
    x = random_map(SHAPE)
    ours = built(CrossModalAttention(heads=2, own=True), [x.shape])
    theirs = keras.layers.MultiHeadAttention(2, 2)
    tokens = x.reshape(2, 15, 4)
    theirs.build(tokens.shape, tokens.shape)
    (wq, wk), (wv,) = as_numpy(ours.kernel), as_numpy(ours.value_kernel)
    theirs.set_weights(
        [
            wq.reshape(4, 2, 2),
            as_numpy(ours.bias).reshape(2, 2),
            wk.reshape(4, 2, 2),
            np.zeros((2, 2)),
            wv.reshape(4, 2, 2),
            as_numpy(ours.value_bias).reshape(2, 2),
            np.eye(4).reshape(2, 2, 4),
            np.zeros(4),
        ]
    )
    assert_close(ours([x])[0], as_numpy(theirs(tokens, tokens)).reshape(SHAPE))


@pytest.mark.parametrize("size", [4, 3, 2])
def test_large_maps_are_averaged_for_the_keys(size):
    x, y = random_maps(2, (2, 4, 7, 4))
    layer = built(CrossModalAttention(key_size=size), [x.shape, y.shape])
    tall, wide = -(-4 // size), -(-7 // size)
    pooled = [
        np.array(
            [
                [
                    z[:, i * tall : (i + 1) * tall, j * wide : (j + 1) * wide].mean(
                        axis=(1, 2)
                    )
                    for j in range(7 // wide)
                ]
                for i in range(4 // tall)
            ]
        ).transpose(2, 0, 1, 3)
        for z in (x, y)
    ]
    # The queries of one against the pooled cells of the other.
    first, _ = layer([x, y])
    assert_close(first, expected_attention(layer, [x, pooled[1]])[0])
    _, second = layer([x, y])
    assert_close(second, expected_attention(layer, [pooled[0], y])[1])


@pytest.mark.parametrize(
    ("count", "kwargs", "presence", "params"),
    [
        (2, {"heads": 2}, True, 2 * (3 * 16 + 2 * 4)),
        (3, {"units": 2, "shared": True}, False, 2 * 8 + 16 + 2 + 4),
        (
            1,
            {"own": True, "kernel_initializer": "he_normal"},
            False,
            3 * 16 + 2 * 4,
        ),
    ],
)
def test_layer_behaves(count, kwargs, presence, params, tmp_path):
    run_layer_test(
        CrossModalAttention,
        kwargs,
        [(2, 5, 7, 4)] * count,
        tmp_path,
        presence=presence,
        expected_output_shape=[(2, 5, 7, 4)] * count,
        expected_params=params,
    )


def test_layer_behaves_with_pooled_keys(tmp_path):
    run_layer_test(
        CrossModalAttention,
        {"key_size": 3},
        [(2, 5, 7, 4)] * 2,
        tmp_path,
        presence=True,
        any_size=False,
    )


def test_initial_values():
    layer = CrossModalAttention(units=12)
    layer.build([(None, 4, 4, 48)] * 2)
    for kernel, columns in ((layer.kernel, 12), (layer.value_kernel, 48)):
        limit = np.sqrt(6 / (48 + columns))
        for matrix in as_numpy(kernel):
            assert 0.95 * limit < np.abs(matrix).max() <= limit
    assert len({float(matrix[0, 0]) for matrix in as_numpy(layer.kernel)}) == 4


def test_all_present_is_the_equation_without_mask():
    xs = random_maps(3)
    layer = built(CrossModalAttention(), [x.shape for x in xs])
    assert_close(layer(xs, presence=np.ones((2, 3), "float32")), layer(xs), 1e-6)


def test_absent_stream_is_ignored_and_leaves_as_zeros():
    xs, others = random_maps(3), random_maps(3, seed=50)
    layer = built(CrossModalAttention(own=True), [x.shape for x in xs])
    presence = np.array([[1, 0, 1], [1, 0, 1]], "float32")
    outputs = layer(xs, presence=presence)
    assert_close(
        layer([xs[0], 1e4 * others[1], xs[2]], presence=presence), outputs, 1e-6
    )
    assert not as_numpy(outputs[1]).any()
    assert as_numpy(outputs[0]).any() and as_numpy(outputs[2]).any()


def test_the_only_one_present_has_nothing_to_look_at():
    xs = random_maps(2)
    layer = built(CrossModalAttention(), [x.shape for x in xs])
    for x in layer(xs, presence=np.array([[1, 0], [0, 1]], "float32")):
        assert not as_numpy(x).any()


@pytest.mark.parametrize(
    ("kwargs", "shapes", "expected"),
    [
        # Q and K of 6 + 4 tokens, V of as many, and 2 x 24 pairs.
        ({}, [(1, 2, 3, 8), (1, 2, 2, 8)], 10 * 3 * 64 + 2 * 24 * 16),
        # 100 pairs.
        (
            {"own": True, "units": 4, "heads": 2},
            [(1, 2, 3, 8), (1, 2, 2, 8)],
            10 * 2 * 32 + 10 * 64 + 100 * 12,
        ),
        # 16 queries of each, 4 keys of each.
        ({"key_size": 2}, [(1, 4, 4, 8)] * 2, 40 * 64 + 8 * 64 + 2 * 64 * 16),
    ],
)
def test_multiply_adds(kwargs, shapes, expected):
    layer = CrossModalAttention(**kwargs)
    layer.build(shapes)
    assert layer.multiply_adds(shapes) == expected


@pytest.mark.parametrize("name", ["heads", "units", "key_size"])
@pytest.mark.parametrize("value", [0, -1, 1.5])
def test_bad_numbers(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        CrossModalAttention(**{name: value})


@pytest.mark.parametrize("kwargs", [{"heads": 3}, {"heads": 2, "units": 3}])
def test_heads_that_do_not_divide(kwargs):
    with pytest.raises(ValueError, match=r"`heads` must divide.*4 channels"):
        CrossModalAttention(**kwargs).build([(None, 4, 4, 4)] * 2)


def test_one_modality_alone():
    with pytest.raises(ValueError, match="`own=True`"):
        CrossModalAttention()(random_maps(1))


def test_unequal_channels():
    with pytest.raises(ValueError, match="equal channels"):
        CrossModalAttention().build([(None, 4, 4, 4), (None, 4, 4, 8)])


def test_no_list():
    with pytest.raises(ValueError, match="list of feature maps"):
        CrossModalAttention()(np.zeros((2, 4, 4, 3), "float32"))


def test_unknown_size_with_pooled_keys():
    with pytest.raises(ValueError, match="known size"):
        CrossModalAttention(key_size=2)([keras.Input((None, None, 4))] * 2)


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 2, 1)])
def test_wrong_presence(shape):
    with pytest.raises(ValueError, match="presence"):
        CrossModalAttention()(random_maps(2), presence=np.ones(shape, "float32"))
