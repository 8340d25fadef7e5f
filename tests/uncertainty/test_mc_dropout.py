"""Monte-Carlo dropout against a loop of forward passes, and what must not move."""

import copy
import gc
import importlib.util
import weakref

import keras
import numpy as np
import pytest
from keras import layers, ops

from drifa_keras import DRIFANet, uncertainty
from drifa_keras.layers import AttentionNoise, MCDropout
from drifa_keras.uncertainty import mc_dropout, measures
from drifa_keras.uncertainty._split import split
from harness import as_numpy

MEASURES = (
    "predictive_entropy",
    "expected_entropy",
    "mutual_information",
    "variance",
    "variation_ratio",
)


def predict(model, x, **arguments):
    arguments = {"return_passes": True, "verbose": 0, **arguments}
    return uncertainty.predict(model, x, **arguments)


def only(results):
    (result,) = results.values()
    return result


def passes_of(results):
    return {name: result.passes for name, result in results.items()}


def assert_same(one, other, tolerance=1e-5):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=tolerance)


def always_on(model):
    """A copy whose dropout is on in every call, by Keras' own random numbers."""

    def swap(layer):
        config = layer.get_config()
        if isinstance(layer, layers.Dropout):
            config = {key: config[key] for key in ("name", "rate", "noise_shape")}
            return MCDropout(**config, always_on=True)
        return type(layer).from_config(config)

    graph = keras.Model(model.inputs, model.outputs)
    graph = keras.models.clone_model(graph, clone_function=swap, recursive=True)
    graph.set_weights(model.get_weights())
    return graph


def naive_loop(model, x, passes):
    """One forward pass after another: a list of `(passes, n, classes)`, by output."""
    model = always_on(model)
    x = [ops.convert_to_tensor(x[tensor.name]) for tensor in model.inputs]
    outputs = [keras.tree.flatten(model.predict_on_batch(x)) for _ in range(passes)]
    return [np.stack(output) for output in zip(*outputs, strict=True)]


def assert_agree(passes, expected):
    """Means and variances agree within Monte-Carlo error, entry by entry."""
    for moment in (lambda p: p, lambda p: np.square(p - p.mean(axis=0))):
        one, other = (moment(p.astype("float64")) for p in (passes, expected))
        error = np.sqrt(one.var(axis=0) / len(one) + other.var(axis=0) / len(other))
        z = (one.mean(axis=0) - other.mean(axis=0)) / error
        assert np.isfinite(z).all()
        assert np.abs(z).max() < 5
        assert np.sqrt(np.mean(np.square(z))) < 2


def randomise(model, seed=0):
    """Statistics as after a training, so that normalisation does something."""
    generator = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            shape = layer.moving_mean.shape
            layer.moving_mean.assign(generator.normal(0, 0.3, shape))
            layer.moving_variance.assign(generator.uniform(0.5, 2, shape))


def check_equality(model, x, passes=500):
    randomise(model)
    before = {v.path: as_numpy(v) for v in model.variables}
    results = predict(model, x, passes=passes)
    after = {v.path: as_numpy(v) for v in model.variables}
    for path, value in before.items():
        np.testing.assert_array_equal(after[path], value, err_msg=path)
    for result, expected in zip(
        results.values(), naive_loop(model, x, passes), strict=True
    ):
        assert_agree(result.passes, expected)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_equals_a_naive_loop(rate, make_dense, features):
    check_equality(make_dense(rate), {"features": features})


def test_equals_a_naive_loop_for_a_multimodal_network(make_drifa, images):
    check_equality(make_drifa(), {k: v.astype("float32") for k, v in images.items()})


@pytest.mark.large
@pytest.mark.parametrize("preset", ["drifa_resnet18", "drifa_resnet18_released"])
def test_presets_equal_a_naive_loop(preset):
    modalities = {"ct": (32, 32, 1), "skin": (32, 32, 3)}
    model = DRIFANet.from_preset(
        preset, modalities, {"lesion": 3, "nodule": 2}, filters=(4, 6, 8, 10)
    )
    generator = np.random.default_rng(0)
    check_equality(
        model,
        {
            name: generator.uniform(1, 255, (3, *shape)).astype("float32")
            for name, shape in modalities.items()
        },
    )


@pytest.mark.large
@pytest.mark.parametrize("name", ["MobileNet", "EfficientNetB0"])
def test_applications_equal_a_naive_loop(name):
    alpha = {"alpha": 0.25} if name == "MobileNet" else {}
    model = getattr(keras.applications, name)(
        input_shape=(32, 32, 3), weights=None, classes=4, **alpha
    )
    x = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype("float32")
    check_equality(model, {model.inputs[0].name: x})


def test_measures_are_those_of_the_passes(make_drifa, images):
    results = predict(make_drifa(), images, passes=7, batch_size=3)
    assert list(results) == ["lesion", "nodule"]
    for task, classes in (("lesion", 3), ("nodule", 2)):
        result = results[task]
        assert result.passes.shape == (7, 5, classes)
        assert result.passes.dtype == result.mean.dtype == np.float32
        np.testing.assert_allclose(result.mean, result.passes.mean(axis=0), atol=1e-6)
        for name in MEASURES:
            expected = getattr(measures, name)(result.passes)
            np.testing.assert_allclose(
                getattr(result, name), expected, atol=1e-9, err_msg=name
            )
        assert (result.variance > 0).all()


def test_passes_are_kept_on_request_alone(make_dense, features):
    assert only(predict(make_dense(), features, return_passes=False)).passes is None


@pytest.mark.parametrize(
    "arguments",
    [{"batch_size": 1}, {"batch_size": 4}, {"batch_size": 999}, {"max_bytes": 1}],
    ids=str,
)
def test_result_is_the_same_however_rows_are_batched(arguments, make_dense, features):
    model = make_dense()
    expected = predict(model, features, passes=11)
    batched = predict(model, features, passes=11, **arguments)
    assert_same(passes_of(batched), passes_of(expected))


def test_first_of_many_passes_are_those_of_few(make_dense, features):
    model = make_dense()
    few, many = (only(predict(model, features, passes=n)).passes for n in (3, 10))
    np.testing.assert_allclose(few, many[:3], atol=1e-6)


def test_seed_picks_the_passes(make_dense, features):
    model = make_dense()
    first, again, other = (
        only(predict(model, features, seed=seed)).passes for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


def test_samples_and_passes_have_masks_of_their_own(make_dense):
    model = make_dense(units=64)
    result = only(predict(model, np.ones((6, 6), "float32"), passes=6))
    rows = result.passes.reshape(36, -1)
    assert len(np.unique(rows.round(6), axis=0)) == 36


def test_reloaded_model_gives_the_same(make_drifa, images, tmp_path):
    model = make_drifa()
    expected = predict(model, images, passes=4)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(passes_of(predict(loaded, images, passes=4)), passes_of(expected))


def test_saved_before_or_after_a_model_is_the_same(make_dense, features, tmp_path):
    model = make_dense()
    config = model.get_config()
    expected = model.predict(features, verbose=0)
    predict(model, features)
    assert model.get_config() == config
    np.testing.assert_array_equal(model.predict(features, verbose=0), expected)
    copied = copy.deepcopy(model)
    np.testing.assert_allclose(copied.predict(features, verbose=0), expected, atol=1e-6)


def test_new_weights_count(make_dense, features):
    model = make_dense()
    before = only(predict(model, features)).mean
    model.get_layer("grade").bias.assign([5.0, 0.0, 0.0])
    assert (only(predict(model, features)).mean[:, 0] > before[:, 0]).all()


def test_new_rate_counts(make_dense, features):
    model = make_dense(0.5)
    before = only(predict(model, features, passes=200)).variance
    (dropout,) = [x for x in model.layers if isinstance(x, layers.Dropout)]
    dropout.rate = 0.01
    assert only(predict(model, features, passes=200)).variance.mean() < before.mean()
    dropout.rate = 0.0
    with pytest.raises(ValueError, match="no active dropout"):
        predict(model, features)


def test_second_call_compiles_nothing_and_nothing_outlives_the_model(
    make_dense, features
):
    model = make_dense()
    predict(model, features)
    (part,) = mc_dropout._SPLITS[model].values()
    predict(model, features, passes=3)
    assert list(mc_dropout._SPLITS[model].values()) == [part]
    gone = [weakref.ref(thing) for thing in (model, part.suffix)]
    del model, part
    gc.collect()
    gc.collect()  # the parts are let go when the model is
    assert [reference() for reference in gone] == [None, None]


# What is before the first dropout, and what follows.


def test_prefix_is_what_lies_before_the_first_dropout():
    model = DRIFANet.from_preset(
        "drifa_resnet18",
        {"ct": (16, 16, 1), "skin": (16, 16, 3)},
        {"lesion": 3},
        filters=(2, 2, 2),
        stem="small",
        dropout_after=((1, 0),),
    )
    part = split(model, [x.shape[1:] for x in model.inputs])
    before, after = (
        {layer.name for layer in network.layers}
        for network in (part.prefix, part.suffix)
    )
    own = [layer.name for layer in model.layers]
    assert {name for name in own if "stage0" in name or "stem" in name} <= before
    assert {"ct_stage1_block0", "skin_stage1_block0", "presence"} <= before
    assert {name for name in own if "stage2" in name or "lesion" in name} <= after
    assert "ct_stage1_block1" in after
    assert not before & after & set(own)
    # Two maps, and the mask of what is present.
    assert len(part.suffix.inputs) == 3 + 1


def test_layers_are_shared_with_the_model(make_dense):
    model = make_dense()
    part = split(model, [(6,)])
    weights = {id(w) for w in part.prefix.weights + part.suffix.weights}
    assert weights <= {id(w) for w in model.weights}


def test_residual_around_dropout_and_a_layer_on_both_sides(features):
    inputs = keras.Input((6,), name="features")
    shared = layers.Dense(6, activation="tanh")
    x = shared(inputs)
    x = shared(layers.Dropout(0.5)(x) + x) + inputs
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
    check_equality(model, {"features": features}, passes=300)


def test_dropout_on_the_input_itself():
    inputs = keras.Input((4,), name="x")
    model = keras.Model(inputs, layers.Dropout(0.5)(inputs))
    passes = only(predict(model, np.ones((50, 4), "float32"), passes=40)).passes
    assert np.unique(passes).tolist() == [0, 2]
    assert passes.mean() == pytest.approx(1, abs=0.05)


def test_models_within_the_model(features):
    inner = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(6, activation="tanh"),
            layers.BatchNormalization(),
            layers.Dropout(0.4),
            layers.Dense(6),
        ],
        name="inner",
    )
    ends = keras.Input((6,)), keras.Input((6,))
    joined = keras.Model(ends, [inner(ends[0]) + ends[1], ends[1] * 2], name="joined")
    inputs = keras.Input((6,), name="features")
    first, second = joined([inputs, inner(inputs)])
    third, fourth = joined([inputs, inputs])
    x = layers.Concatenate()([first, second, third, fourth])
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
    check_equality(model, {"features": features}, passes=300)


def test_prefix_reaches_into_models_within_the_model(make_dense):
    inner = make_dense()
    inputs = keras.Input((6,))
    part = split(keras.Model(inputs, inner(inputs)), [(6,)])
    kernel = inner.get_layer("before").kernel
    assert any(w is kernel for w in part.prefix.weights)
    assert not any(w is kernel for w in part.suffix.weights)


def test_sequential_model(features):
    model = keras.Sequential(
        [layers.Dense(8), layers.Dropout(0.5), layers.Dense(3, activation="softmax")]
    )
    with pytest.raises(ValueError, match=r"built Sequential.*Sequential"):
        predict(model, features)
    model.build((None, 6))
    assert only(predict(model, features)).mutual_information.shape == (9,)
    model.add(layers.Dense(2, activation="softmax"))
    assert only(predict(model, features)).mean.shape == (9, 2)


def test_mask_that_the_samples_of_a_batch_share():
    inputs = keras.Input((8,), name="x")
    model = keras.Model(inputs, layers.Dropout(0.5, noise_shape=(1, 8))(inputs))
    x = np.ones((7, 8), "float32")
    passes = only(predict(model, x, passes=10, batch_size=3)).passes
    np.testing.assert_array_equal(passes, np.broadcast_to(passes[:, :1], passes.shape))
    assert len(np.unique(passes[:, 0], axis=0)) > 5


def test_bags_folded_into_the_batch():
    inputs = keras.Input((5, 6), name="bag")
    x = ops.reshape(inputs, (-1, 6))
    x = layers.Dense(4, activation="tanh")(x)
    x = layers.Dropout(0.5)(x)
    x = layers.GlobalAveragePooling1D()(ops.reshape(x, (-1, 5, 4)))
    model = keras.Model(inputs, layers.Dense(2, activation="softmax")(x))
    x = np.random.default_rng(0).standard_normal((3, 5, 6)).astype("float32")
    check_equality(model, {"bag": x}, passes=300)


def test_masks_of_padded_sequences_are_passed_on():
    inputs = keras.Input((5,), dtype="int32", name="tokens")
    x = layers.Embedding(10, 4, mask_zero=True)(inputs)
    x = layers.Dropout(0.5)(x)
    x = layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, x)
    x = np.array([[3, 4, 0, 0, 0]] * 2, "int32")
    mean = only(predict(model, x, passes=2000)).mean
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(mean, expected, atol=0.01)


def test_dropout_of_the_users_own_that_is_always_on(features):
    class OwnDropout(layers.Dropout):
        def call(self, inputs):
            return super().call(inputs, training=True)

    inputs = keras.Input((6,))
    x = OwnDropout(0.5)(layers.Dense(8)(inputs))
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
    one, same = (only(predict(model, features)).passes for _ in range(2))
    np.testing.assert_array_equal(one, same)
    assert one.var(axis=0).min() > 0


# Data in, results out.


class Batches(keras.utils.PyDataset):
    """Batches of unequal size, with labels that nobody asked for."""

    def __init__(self, x, sizes):
        super().__init__()
        self.x, self.bounds = x, np.cumsum([0, *sizes])

    def __len__(self):
        return len(self.bounds) - 1

    def __getitem__(self, index):
        begin, end = self.bounds[index : index + 2]
        x = {name: array[begin:end] for name, array in self.x.items()}
        return x, np.zeros(end - begin)


def test_data_in_batches(make_drifa, images):
    model = make_drifa()
    expected = passes_of(predict(model, images, passes=3))
    for sizes in ([3, 2], [1, 4], [2, 2, 1]):
        dataset = Batches(images, sizes)
        assert_same(passes_of(predict(model, dataset, passes=3)), expected)
    batches = ({k: v[i : i + 2] for k, v in images.items()} for i in range(0, 5, 2))
    assert_same(passes_of(predict(model, batches, passes=3)), expected)
    if importlib.util.find_spec("tensorflow"):
        import tensorflow as tf

        dataset = tf.data.Dataset.from_tensor_slices(images).batch(2)
        assert_same(passes_of(predict(model, dataset, passes=3)), expected)
        with_labels = tf.data.Dataset.from_tensor_slices((images, np.zeros(5)))
        dataset = with_labels.batch(4)
        assert_same(passes_of(predict(model, dataset, passes=3)), expected)


def test_inputs_as_a_list_a_dict_and_tensors():
    left, right = keras.Input((3,), name="left"), keras.Input((2,), name="right")
    x = layers.Dropout(0.5)(layers.Concatenate()([right, left]))
    model = keras.Model([right, left], layers.Dense(3, activation="softmax")(x))
    generator = np.random.default_rng(0)
    arrays = [generator.standard_normal((4, n)).astype("float32") for n in (2, 3)]
    expected = passes_of(predict(model, arrays))
    by_name = {"left": arrays[1], "right": arrays[0]}
    assert_same(passes_of(predict(model, by_name)), expected)
    tensors = [ops.convert_to_tensor(array) for array in arrays]
    assert_same(passes_of(predict(model, tensors)), expected)


def test_missing_modality_is_a_blank_one(make_drifa, images):
    model = make_drifa()
    given = {"skin": images["skin"]}
    blank = {**given, "ct": np.zeros_like(images["ct"])}
    assert_same(passes_of(predict(model, given)), passes_of(predict(model, blank)))
    given["ct"] = None
    assert_same(passes_of(predict(model, given)), passes_of(predict(model, blank)))


def test_several_outputs_in_a_list(features):
    inputs = keras.Input((6,))
    x = layers.Dropout(0.5)(inputs)
    outputs = [
        layers.Dense(3, activation="softmax", name="grade")(x),
        layers.Dense(1, name="size")(x),
        layers.Reshape((), name="scalar")(layers.Dense(1)(x)),
    ]
    results = predict(keras.Model(inputs, outputs), features)
    assert list(results) == ["grade", "size", "scalar"]
    assert results["scalar"].mean.shape == results["scalar"].variance.shape == (9,)
    size = results["size"]
    # No distribution: no entropy, but a mean and a variance.
    assert size.mean.shape == (9, 1)
    np.testing.assert_allclose(size.variance, size.passes.var(axis=0)[:, 0], rtol=1e-4)
    for name in set(MEASURES) - {"variance"}:
        assert getattr(size, name) is None
        assert getattr(results["grade"], name).shape == (9,)


def test_maps_of_classes_of_any_size():
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, padding="same", data_format="channels_last")(inputs)
    x = layers.SpatialDropout2D(0.5, data_format="channels_last")(x)
    outputs = layers.Conv2D(3, 1, activation="softmax", data_format="channels_last")(x)
    model = keras.Model(inputs, outputs)
    for height, width in ((6, 8), (4, 4)):
        x = np.random.default_rng(0).standard_normal((2, height, width, 3))
        result = only(predict(model, x, passes=5))
        assert result.passes.shape == (5, 2, height, width, 3)
        for name in MEASURES:
            expected = getattr(measures, name)(result.passes)
            assert expected.shape == (2, height, width)
            np.testing.assert_allclose(getattr(result, name), expected, atol=1e-9)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy, make_drifa, images):
    expected = predict(make_drifa(), images, passes=40)
    keras.utils.set_random_seed(20250)
    results = predict(make_drifa(dtype=policy), images, passes=40)
    for task, result in results.items():
        assert result.passes.dtype == np.float32
        assert (result.mutual_information > 0).all()
        assert np.isfinite(result.variance).all()
        assert result.mean.shape == expected[task].mean.shape


def test_progress_bar(make_dense, features, capsys):
    model = make_dense()
    predict(model, features, passes=4)
    assert capsys.readouterr().out == ""
    predict(model, features, passes=4, verbose=1)
    assert "36/36" in capsys.readouterr().out
    predict(model, iter([features[:5], features[5:]]), passes=4, verbose="auto")
    assert capsys.readouterr().out == ""


# What cannot be done is said.


def test_no_active_dropout(make_dense, make_drifa, features, images):
    with pytest.raises(ValueError, match=r"no active dropout.*rate above 0"):
        predict(make_dense(rate=0.0), features)
    with pytest.raises(ValueError, match="no active dropout"):
        predict(make_drifa(dropout=0.0, modality_dropout=0.5), images)
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.GaussianNoise(1.0)(inputs))
    with pytest.raises(ValueError, match="no active dropout"):
        predict(model, features)


def test_output_without_dropout_is_named(features):
    inputs = keras.Input((6,))
    x = layers.Dense(4, name="steady")(inputs)
    model = keras.Model(inputs, {"steady": x, "random": layers.Dropout(0.5)(x)})
    with pytest.raises(ValueError, match=r"'steady'.*no active dropout"):
        predict(model, features)


def test_modality_dropout_stays_off(make_drifa, images):
    arguments = {"dropout": 0.25, "dropout_after": ()}
    model, same = make_drifa(**arguments), make_drifa(**arguments, modality_dropout=0.9)
    same.set_weights(model.get_weights())
    assert_same(passes_of(predict(same, images)), passes_of(predict(model, images)))


def test_what_is_random_at_inference_is_held_and_goes_on_as_before(features):
    inputs = keras.Input((6,))
    x = AttentionNoise(3.0)(inputs)
    dropout = layers.Dropout(0.5)
    x = AttentionNoise(3.0)(dropout(x))
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
    before = [as_numpy(v) for v in model.variables]
    expected = predict(model, features, passes=3)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(as_numpy(variable), value)
    again = predict(model, features, passes=3, batch_size=2)
    assert_same(passes_of(again), passes_of(expected))
    # Without dropout there is one draw, which follows from the seed.
    dropout.rate = 1e-9
    one, other = (only(predict(model, features, seed=seed)) for seed in (0, 1))
    assert one.variance.max() < 1e-9
    assert np.abs(one.mean - other.mean).max() > 1e-3


class Wrapped(layers.Layer):
    """A layer with dropout deep inside."""

    def __init__(self, rate, **kwargs):
        super().__init__(**kwargs)
        self.inside = keras.Sequential([layers.Dense(6), layers.Dropout(rate)])

    def call(self, x):
        return self.inside(x)


@pytest.mark.parametrize(
    "layer",
    [
        Wrapped(0.5, name="culprit"),
        layers.MultiHeadAttention(2, 3, dropout=0.1, name="culprit"),
        layers.LSTM(3, dropout=0.1, name="culprit"),
        layers.GRU(3, recurrent_dropout=0.1, name="culprit"),
        layers.Bidirectional(layers.LSTM(3, dropout=0.1), name="culprit"),
        layers.TimeDistributed(layers.Dropout(0.1), name="culprit"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_dropout_out_of_reach_is_named(layer):
    inputs = keras.Input((4, 6))
    x = layers.Dropout(0.5)(inputs)
    x = layer(x, x) if isinstance(layer, layers.MultiHeadAttention) else layer(x)
    with pytest.raises(ValueError, match=r"'culprit'.*dropout inside"):
        predict(keras.Model(inputs, x), np.ones((2, 4, 6), "float32"))


@pytest.mark.parametrize("rate", [0.0, None])
def test_layers_without_active_dropout_inside_are_fine(rate):
    inputs = keras.Input((4, 6))
    x = layers.LSTM(3)(inputs) if rate is None else Wrapped(rate)(inputs)
    model = keras.Model(inputs, layers.Dropout(0.5)(x))
    assert only(predict(model, np.ones((2, 4, 6), "float32"))).variance.max() > 0


class OwnCall(keras.Model):
    """A Functional model that does something else when called."""

    def call(self, inputs, training=None):
        return super().call(inputs, training=training) * 2


def test_model_without_a_graph(make_dense, features):
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    dense = make_dense()
    for model in (Subclassed(), OwnCall(dense.inputs, dense.outputs), "model"):
        with pytest.raises(ValueError, match=f"Functional.*{type(model).__name__}"):
            predict(model, features)


@pytest.mark.parametrize(
    "arguments",
    [
        {"passes": 0},
        {"passes": 2.5},
        {"batch_size": 0},
        {"max_bytes": -1},
        {"seed": -1},
        {"seed": None},
    ],
    ids=str,
)
def test_numbers_out_of_range(arguments, make_dense, features):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        predict(make_dense(), features, **arguments)


def test_data_that_does_not_fit(make_dense, make_drifa, features, images):
    dense, drifa = make_dense(), make_drifa()
    weights = dense.get_weights()
    with pytest.raises(ValueError, match=r"'features'.*\(6,\).*\(9, 4\)"):
        predict(dense, features[:, :4])
    with pytest.raises(ValueError, match="1 inputs.*2 arrays"):
        predict(dense, [features, features])
    for empty in (features[:0], ()):
        with pytest.raises(ValueError, match="no sample|1 inputs"):
            predict(dense, empty)
    with pytest.raises(ValueError, match="'mri'"):
        predict(drifa, {**images, "mri": images["ct"]})
    with pytest.raises(ValueError, match="as many images"):
        predict(drifa, {**images, "ct": images["ct"][:2]})
    with pytest.raises(ValueError, match="channels"):
        predict(drifa, {**images, "ct": images["skin"]})
    with pytest.raises(ValueError, match="No images"):
        predict(drifa, {})
    for before, after in zip(weights, dense.get_weights(), strict=True):
        np.testing.assert_array_equal(after, before)
