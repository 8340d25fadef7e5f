"""Gradients with regard to inputs, against formulas worked out in NumPy."""

import keras
import numpy as np
import pytest
from keras import ops

from drifa_keras.gradients import in_batches, stateless, value_and_grad
from drifa_keras.layers import AttentionNoise, draw, seed_states
from harness import as_numpy

L = keras.layers


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def two_inputs(outputs="dict"):
    """p = tanh(a W) + b V and q = a U, with a of 3 and b of 2 numbers."""
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    w, v, u = (L.Dense(4, use_bias=False, name=name) for name in "wvu")
    p, q = L.Add()([L.Activation("tanh")(w(a)), v(b)]), u(a)
    if outputs == "list":
        return keras.Model([b, a], [p, q])
    return keras.Model({"a": a, "b": b}, {"p": p, "q": q})


def kernel(model, name):
    return as_numpy(model.get_layer(name).kernel)


@pytest.mark.parametrize("outputs", ["dict", "list"])
def test_closed_form(outputs):
    model = two_inputs(outputs)
    x = {"a": random(5, 3), "b": random(5, 2, seed=1)}
    scale = random(5, 4, seed=2)

    def function(results, scale):
        p, q = results.values() if outputs == "dict" else results
        return ops.sum(scale * p, axis=-1) + ops.sum(q, axis=-1)

    values, gradients, results = value_and_grad(function, model)(x, scale)
    w, v, u = (kernel(model, name) for name in "wvu")
    hidden = np.tanh(x["a"] @ w)
    wanted = {
        "a": (scale * (1 - hidden**2)) @ w.T + u.sum(axis=1),
        "b": scale @ v.T,
    }
    p, q = hidden + x["b"] @ v, x["a"] @ u
    np.testing.assert_allclose(
        as_numpy(values), (scale * p).sum(1) + q.sum(1), atol=1e-5
    )
    assert set(gradients) == {"a", "b"}
    for name, gradient in wanted.items():
        np.testing.assert_allclose(as_numpy(gradients[name]), gradient, atol=1e-5)
    results = results["q"] if outputs == "dict" else results[1]
    np.testing.assert_allclose(as_numpy(results), q, atol=1e-5)


def test_arguments_are_structures():
    model = two_inputs()
    x = {"a": random(5, 3), "b": random(5, 2, seed=1)}
    scales = {"p": random(5, 4, seed=2), "q": [random(5, 4, seed=3), np.arange(5)]}

    def function(results, scales, factor):
        p = ops.sum(scales["p"] * results["p"], axis=-1)
        q = ops.sum(scales["q"][0] * results["q"], axis=-1)
        return factor * (p + ops.cast(scales["q"][1], q.dtype) * q)

    gradient_of = value_and_grad(function, model, wrt=["b"])
    values, gradients, results = gradient_of(x, scales, 2.0)
    p, q = (as_numpy(results[name]) for name in "pq")
    wanted = (scales["p"] * p).sum(1) + np.arange(5) * (scales["q"][0] * q).sum(1)
    np.testing.assert_allclose(as_numpy(values), 2 * wanted, atol=1e-4)
    wanted = 2 * scales["p"] @ kernel(model, "v").T
    np.testing.assert_allclose(as_numpy(gradients["b"]), wanted, atol=1e-5)


def test_only_what_is_asked_for_and_zero_without_a_path():
    model = two_inputs()
    x = {"a": random(2, 3), "b": random(2, 2)}
    values_of_q = value_and_grad(lambda y: ops.sum(y["q"], axis=-1), model, wrt=["b"])
    _, gradients, _ = values_of_q(x)
    assert list(gradients) == ["b"]
    assert as_numpy(gradients["b"]).shape == (2, 2)
    assert not as_numpy(gradients["b"]).any()


def test_weights_are_read_anew():
    model = keras.Sequential([keras.Input((3,), name="x"), L.Dense(1, use_bias=False)])
    gradient_of = value_and_grad(lambda y: y[:, 0], model)
    for factor in (1.0, -2.0):
        weights = factor * np.array([[1.0], [2.0], [3.0]], "float32")
        model.set_weights([weights])
        _, gradients, _ = gradient_of({"x": np.zeros((4, 3))})
        np.testing.assert_allclose(as_numpy(gradients["x"]), np.tile(weights.T, (4, 1)))


@pytest.mark.parametrize("training", [False, True])
def test_state_stays_and_training_is_obeyed(training):
    model = keras.Sequential(
        [
            keras.Input((3,), name="x"),
            L.BatchNormalization(epsilon=0.0),
            L.Dropout(0.5, seed=1),
        ]
    )
    model.layers[0].moving_variance.assign([4.0, 4.0, 4.0])
    x = random(64, 3)
    before = [as_numpy(v) for v in model.variables]
    gradient_of = value_and_grad(
        lambda y: ops.sum(y, axis=-1), model, training=training
    )
    (first, gradients, outputs), (second, _, _) = (
        gradient_of({"x": x}),
        gradient_of({"x": x}),
    )
    for variable, value in zip(model.variables, before, strict=True):
        assert np.array_equal(as_numpy(variable), value), variable.path
    outputs = as_numpy(outputs)
    if training:
        assert np.array_equal(as_numpy(first), as_numpy(second))  # the same mask
        assert 0.3 < np.mean(outputs == 0) < 0.7
        kept = outputs != 0
        normal = (x - x.mean(0)) / x.std(0)
        np.testing.assert_allclose(outputs[kept], 2 * normal[kept], atol=1e-4)
    else:
        np.testing.assert_allclose(outputs, x / 2, atol=1e-6)
        np.testing.assert_allclose(as_numpy(gradients["x"]), np.full(x.shape, 0.5))


def test_stateless_evaluates_and_moves_nothing():
    model = keras.Sequential(
        [
            keras.Input((3,), name="x"),
            L.BatchNormalization(epsilon=0.0),
            L.Dropout(0.5, seed=1),
            L.Dense(1, use_bias=False),
        ]
    )
    x = random(8, 3)
    call = stateless(model)
    for factor in (1.0, -2.0):  # weights and statistics are read anew
        weights = factor * np.array([[1.0], [2.0], [3.0]], "float32")
        model.layers[-1].set_weights([weights])
        model.layers[0].moving_variance.assign([factor**2] * 3)
        before = [as_numpy(v) for v in model.variables]
        found = as_numpy(call({"x": x}))
        np.testing.assert_allclose(found, x / abs(factor) @ weights, atol=1e-5)
        for variable, value in zip(model.variables, before, strict=True):
            assert np.array_equal(as_numpy(variable), value), variable.path


def test_stateless_draws_by_the_seeds():
    inputs = keras.Input((50,), name="x")
    model = keras.Model(inputs, {"y": AttentionNoise(seed=3)(inputs)})
    call, x = stateless(model), {"x": np.zeros((2, 50))}
    first, second = (as_numpy(call(x)["y"]) for _ in range(2))
    assert first.any()
    np.testing.assert_array_equal(first, second)
    with keras.StatelessScope(state_mapping=draw(seed_states(model), 5)):
        other = as_numpy(call(x)["y"])
    assert (other != first).all()
    np.testing.assert_array_equal(as_numpy(call(x)["y"]), first)


def test_stateless_needs_a_graph():
    with pytest.raises(ValueError, match="Functional model or a built Sequential"):
        stateless(keras.Sequential([L.Dense(2)]))


def test_bytes_and_half_precision():
    inputs = keras.Input((4, 4, 1), name="x")
    x = L.Conv2D(2, 3, dtype="mixed_bfloat16")(L.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, L.Flatten(dtype="float32")(x))
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 1)).astype("uint8")
    values, gradients, _ = value_and_grad(lambda y: ops.sum(y, axis=-1), model)(
        {"x": images}
    )
    assert keras.backend.standardize_dtype(gradients["x"].dtype) == "float32"
    assert as_numpy(gradients["x"]).shape == images.shape
    assert np.all(as_numpy(gradients["x"]).any(axis=(1, 2, 3)))
    assert np.isfinite(as_numpy(values)).all()


def test_bad_arguments():
    model = two_inputs()

    def function(outputs):
        return outputs["p"][:, 0]

    with pytest.raises(ValueError, match=r"some of \['a', 'b'\]"):
        value_and_grad(function, model, wrt=["c"])
    with pytest.raises(ValueError, match="wrt="):
        value_and_grad(function, model, wrt=[])
    with pytest.raises(ValueError, match=r"keys \['a', 'b'\]. Received: \['a'\]"):
        value_and_grad(function, model)({"a": random(2, 3)})
    with pytest.raises(ValueError, match="a dict"):
        value_and_grad(function, model)([random(2, 3), random(2, 2)])

    class Subclassed(keras.Model):
        def call(self, x):
            return x

    for without_graph in (Subclassed(), keras.Sequential([L.Dense(2)])):
        with pytest.raises(ValueError, match="Functional model or a built Sequential"):
            value_and_grad(function, without_graph)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 50])
def test_in_batches(batch_size):
    sizes = []

    def function(x, y):
        sizes.append(len(y))
        return {"sum": x["a"] + x["b"], "twice": ops.convert_to_tensor(2 * y)}

    x = {"a": np.arange(10.0), "b": np.arange(10.0) ** 2}
    results = in_batches(function, x, np.arange(10), batch_size=batch_size)
    np.testing.assert_array_equal(results["sum"], x["a"] + x["b"])
    np.testing.assert_array_equal(results["twice"], 2 * np.arange(10))
    # Equal batches, so that one compilation serves all.
    assert set(sizes) == {min(batch_size, 10)}
    assert len(sizes) == -(-10 // batch_size)


@pytest.mark.parametrize("count", [1, 3, 4, 10])
def test_in_batches_of_ever_other_sizes(count):
    sizes = []

    def function(x, y):
        sizes.append((len(x), len(y["a"])))
        return x + y["a"]

    x = np.arange(count)
    found = in_batches(function, x, {"a": 10 * x}, batch_size=4, ever_other=True)
    np.testing.assert_array_equal(found, 11 * x)
    if keras.backend.backend() == "jax":  # one size, whatever the number of rows
        assert sizes == [(4, 4)] * -(-count // 4)
    else:
        assert sizes == [(n, n) for n in [4] * (count // 4) + [count % 4] if n]


def test_in_batches_of_nothing():
    for batch_size, rows in ((0, 3), (2.0, 3), (2, 0)):
        with pytest.raises(ValueError, match="positive integer"):
            in_batches(lambda x: x, np.zeros(rows), batch_size=batch_size)
