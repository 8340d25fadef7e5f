"""freeze_randomness: one draw inside, fresh ones outside, nothing compiled anew."""

import keras
import numpy as np
import pytest
from keras import ops

from drifa_keras.gradients import stateless, value_and_grad
from drifa_keras.layers import (
    AttentionNoise,
    MCDropout,
    RandomProjectionConv2D,
    RandomProjectionDepthwiseConv2D,
    draw,
    freeze_randomness,
    seed_states,
    straight_through_clips,
)
from harness import as_numpy, random_map

X = random_map((6, 5, 7, 8))


def random_model(**compiled):
    inputs = keras.Input(X.shape[1:])
    x = RandomProjectionConv2D(8, 3)(inputs)
    x = RandomProjectionDepthwiseConv2D(3)(x)
    x = keras.layers.BatchNormalization()(x)
    x = AttentionNoise()(x)
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    model.compile(keras.optimizers.SGD(0.0), "mse", **compiled)
    return model


def predict(model, batch_size=6):
    return model.predict(X, batch_size=batch_size, verbose=0)


def differ(a, b):
    return np.abs(as_numpy(a) - as_numpy(b)).max() > 1e-3


CALLS = {
    "predict": predict,
    "predict_on_batch": lambda model: model.predict_on_batch(X),
    "call": lambda model: as_numpy(model(X, training=False)),
    "evaluate": lambda model: model.evaluate(X, np.zeros((6, 5, 7, 2)), verbose=0),
    "fit": lambda model: model.fit(
        X, np.zeros((6, 5, 7, 2)), batch_size=6, verbose=0
    ).history["loss"][0],
}


@pytest.mark.parametrize("call", CALLS)
def test_calls_differ_outside_and_agree_inside(call):
    model, call = random_model(), CALLS[call]
    assert not np.allclose(call(model), call(model), atol=1e-4)  # compiles, too
    with freeze_randomness(model):
        inside = [call(model) for _ in range(3)]
    assert np.allclose(inside[0], inside[1], atol=1e-6)
    assert np.allclose(inside[0], inside[2], atol=1e-6)
    outside = call(model)
    assert not np.allclose(outside, inside[0], atol=1e-4)
    assert not np.allclose(outside, call(model), atol=1e-4)


def test_function_compiled_inside_draws_outside():
    model = random_model()
    with freeze_randomness(model):
        first = predict(model)
        assert not differ(first, predict(model))
    assert differ(predict(model), first)
    assert differ(predict(model), predict(model))


def test_frozen_network_sees_each_sample_alone():
    model = random_model()
    with freeze_randomness(model):
        whole, in_pairs = predict(model), predict(model, batch_size=2)
        backwards = model.predict(X[::-1], batch_size=4, verbose=0)[::-1]
    np.testing.assert_allclose(in_pairs, whole, atol=1e-5)
    np.testing.assert_allclose(backwards, whole, atol=1e-5)


def test_seed_picks_the_draw():
    model = random_model()

    def frozen(seed):
        with freeze_randomness(model, seed):
            return predict(model)

    first, second = frozen(1), frozen(2)
    assert differ(first, second)
    assert not differ(frozen(1), first)
    with freeze_randomness(model):
        default = predict(model)
    assert not differ(default, frozen(0))


def test_seed_picks_the_same_draw_in_a_reloaded_model(tmp_path):
    model = random_model()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    with freeze_randomness(model, 3), freeze_randomness(loaded, 3):
        assert not differ(predict(model), predict(loaded))
    assert differ(predict(model), predict(loaded))


def test_draws_go_on_where_they_had_stopped():
    first, second = random_model(), random_model()
    second.set_weights(first.get_weights())
    for a, b in zip(
        first.non_trainable_variables, second.non_trainable_variables, strict=True
    ):
        b.assign(as_numpy(a))
    with freeze_randomness(first):
        predict(first)
    assert not differ(predict(first), predict(second))


def test_layers_have_draws_of_their_own():
    inputs = keras.Input((10,))
    noises = [AttentionNoise()(inputs), AttentionNoise()(inputs)]
    model = keras.Model(inputs, noises)
    with freeze_randomness(model):
        first, second = model.predict(np.zeros((2, 10)), verbose=0)
    assert differ(first, second)


def test_models_that_share_layers_are_frozen_together():
    model = random_model()
    view = keras.Model(model.input, model.layers[-2].output)
    with freeze_randomness(model):
        assert not differ(predict(view), predict(view))
    with freeze_randomness(view):
        assert not differ(predict(model), predict(model))
    assert differ(predict(view), predict(view))


def test_state_comes_back_after_an_error():
    model = random_model()
    with pytest.raises(RuntimeError), freeze_randomness(model):
        raise RuntimeError
    assert differ(predict(model), predict(model))


def test_contexts_nest():
    model = random_model()
    with freeze_randomness(model, 1):
        outer = predict(model)
        with freeze_randomness(model, 2):
            assert differ(predict(model), outer)
        assert not differ(predict(model), outer)


def test_a_layer_can_be_frozen():
    layer = AttentionNoise()
    layer.build(X.shape)
    with freeze_randomness(layer) as same:
        assert same is layer
        assert not differ(layer(X), layer(X))


def test_a_model_without_random_layers_is_left_alone():
    inputs = keras.Input((10,))
    model = keras.Model(inputs, MCDropout(0.5, always_on=True)(inputs))
    ones = np.ones((8, 10), "float32")
    with freeze_randomness(model):
        first, second = (model.predict(ones, verbose=0) for _ in range(2))
    assert differ(first, second)


def test_training_inside_moves_weights_but_not_the_draw():
    model = random_model()
    model.optimizer.learning_rate = 0.1
    before = as_numpy(model.trainable_variables[0])
    with freeze_randomness(model):
        kernel = as_numpy(model.layers[1].draw_kernel())[..., 6:]
        model.fit(X, np.ones((6, 5, 7, 2)), verbose=0)
        after = as_numpy(model.layers[1].draw_kernel())[..., 6:]
    assert np.array_equal(kernel, after)
    assert not np.array_equal(as_numpy(model.trainable_variables[0]), before)


def test_works_in_a_compiled_function_of_jax():
    if keras.backend.backend() != "jax":
        pytest.skip("JAX alone")
    import jax

    model = random_model()

    @jax.jit
    def call(trainable, state):
        return model.stateless_call(trainable, state, X)[0]

    def run():
        return call(
            [v.value for v in model.trainable_variables],
            [v.value for v in model.non_trainable_variables],
        )

    first = run()
    with freeze_randomness(model):
        inside = run()
        assert not differ(run(), inside)
        assert not differ(predict(model), inside)
    assert differ(first, inside)


# -- Draws without a context -----------------------------------------------------------


def test_seed_states_are_those_of_random_layers():
    inputs = keras.Input((10,))
    x = keras.layers.BatchNormalization()(AttentionNoise()(inputs))
    x = keras.layers.Dropout(0.5)(MCDropout(0.5, always_on=True)(x))
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    states = seed_states(model)
    assert len(states) == 3
    assert all(tuple(state.shape) == (2,) for state in states)
    (noise,) = seed_states(model, ["draw_generator"])  # what `freeze_randomness` holds
    assert noise is model.layers[1].draws.state
    inputs = keras.Input((10,))
    assert seed_states(keras.Model(inputs, keras.layers.Dense(2)(inputs))) == []


def test_drawn_values_hold_for_a_call_and_assign_nothing():
    model = random_model()
    states = seed_states(model)
    assert len(states) == 3
    before = [as_numpy(state) for state in states]
    call, x = stateless(model), {model.inputs[0].name: X}

    def drawn(seed, held=False):
        with keras.StatelessScope(state_mapping=draw(states, seed, held)):
            return as_numpy(call(x))

    assert differ(drawn(1), drawn(2))
    assert not differ(drawn(1), drawn(1))
    assert differ(drawn(1), drawn(1, held=True))
    assert not differ(drawn(1, held=True), drawn(1, held=True))
    with freeze_randomness(model, 1):
        assert not differ(drawn(1, held=True), predict(model))
    for state, value in zip(states, before, strict=True):
        np.testing.assert_array_equal(as_numpy(state), value)


def test_held_draws_see_each_sample_alone():
    model = keras.Sequential([keras.Input((10,), name="x"), AttentionNoise()])
    call, zeros = stateless(model), {"x": np.zeros((4, 10))}
    rows = {}
    for held in (False, True):
        values = draw(seed_states(model), 3, held)
        with keras.StatelessScope(state_mapping=values):
            rows[held] = as_numpy(call(zeros))
    np.testing.assert_array_equal(rows[True], np.tile(rows[True][:1], (4, 1)))
    assert (rows[False][0] != rows[False][1]).all()


def test_layers_draw_apart():
    inputs = keras.Input((10,), name="x")
    model = keras.Model(inputs, [AttentionNoise(seed=1)(inputs) for _ in range(2)])
    values = draw(seed_states(model), 0)
    assert len({int(value[0]) for _, value in values}) == 2
    with keras.StatelessScope(state_mapping=values):
        first, second = stateless(model)({"x": np.zeros((2, 10))})
    assert differ(first, second)


# -- Clips -----------------------------------------------------------------------------


@pytest.mark.parametrize("straight_through", [False, True])
def test_gradient_past_a_clip(straight_through):
    model = keras.Sequential(
        [keras.Input((400,), name="x"), AttentionNoise(released=True, seed=1)]
    )
    x = {"x": np.random.default_rng(0).uniform(-1, 2, (2, 400))}
    gradient_of = value_and_grad(lambda y: ops.sum(y, axis=-1), model)
    if straight_through:
        with straight_through_clips():
            _, gradients, y = gradient_of(x)
    else:
        _, gradients, y = gradient_of(x)
    y, gradient = as_numpy(y), as_numpy(gradients["x"])
    assert y.min() == 0 and y.max() == 1
    inside = (y > 0) & (y < 1)
    assert 0.1 < inside.mean() < 0.9
    # Values are those of a clip either way; a clip's own gradient is 0 where it cuts.
    wanted = np.ones_like(y) if straight_through else inside.astype("float32")
    np.testing.assert_array_equal(gradient, wanted)
