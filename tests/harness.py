"""Checks that every layer of the package has to pass, and helpers around them.

`run_layer_test` asks of a layer what Keras asks of its own: arguments and
serialisation, `build()`, symbolic against eager calls, a compiled training step,
saving and loading, mixed precision, and finite numbers. The helpers below it fill
layers with random weights and read packed weights back as the symbols of the
equations, for comparison with `oracle`.
"""

import inspect
import json
from collections import Counter

import keras
import numpy as np
from keras import ops, tree

import oracle

HALF_PRECISION = {"mixed_float16": 0.01, "mixed_bfloat16": 0.08}
MOVING_STATE = ("moving_mean", "moving_variance", "seed_generator_state")
PLAIN = (bool, int, float, str)

# Presence of 1, 2 and 3 modalities in two samples.
MASKS = {
    1: [[1], [1]],
    2: [[1, 0], [0, 1]],
    3: [[1, 0, 1], [0, 0, 1]],
}


def run_layer_test(
    layer_cls,
    init_kwargs,
    input_shape,
    tmp_path,
    *,
    presence=False,
    expected_output_shape=None,
    expected_params=None,
    expected_output_dtypes=None,
    unmoved=(),
    differentiable=True,
    stochastic=False,
    any_size=True,
):
    """Run every check on one layer.

    Args:
        layer_cls: the class.
        init_kwargs: its constructor arguments.
        input_shape: shape of the input with its batch size, or a list of shapes.
        tmp_path: folder for the saved model.
        presence: pass a presence mask as the keyword argument of that name, too.
        expected_output_shape: shape of the output, or a list of shapes.
        expected_params: number of parameters.
        expected_output_dtypes: list of the dtypes of the outputs, where they are not
            all the compute dtype, for which `None` stands.
        unmoved: ends of the paths of trainable variables that a training step need
            not move.
        differentiable: whether gradients reach the input.
        stochastic: whether the layer draws random numbers at inference.
        any_size: whether the layer takes maps of unknown height and width.
    """
    case = _Case(layer_cls, init_kwargs, input_shape, presence)
    check_configuration(case)
    check_build(case, expected_params)
    check_shapes(case, expected_output_shape, expected_output_dtypes)
    check_state(case, stochastic)
    check_numbers(case)
    check_mixed_precision(case, expected_output_dtypes, stochastic)
    check_functional(case, tmp_path, stochastic, any_size)
    check_training(case, unmoved, differentiable)


class _Case:
    """One layer with its arguments and inputs."""

    def __init__(self, layer_cls, init_kwargs, input_shape, presence):
        self.layer_cls = layer_cls
        self.init_kwargs = init_kwargs
        self.shape = input_shape
        self.presence = presence

    @property
    def shapes(self):
        return self.shape if isinstance(self.shape, list) else [self.shape]

    def one_or_list(self, values):
        """The values as the layer takes them: a list, or the only one."""
        return list(values) if isinstance(self.shape, list) else values[0]

    def unknown_batch(self):
        return self.one_or_list([(None, *shape[1:]) for shape in self.shapes])

    def make(self, **kwargs):
        return self.layer_cls(**{**self.init_kwargs, **kwargs})

    def inputs(self, seed=0, scale=1.0):
        generator = np.random.default_rng(seed)
        return self.one_or_list(
            [
                (scale * generator.standard_normal(shape)).astype("float32")
                for shape in self.shapes
            ]
        )

    def masks(self):
        """Keyword arguments: a presence mask with the last stream off at times."""
        if not self.presence:
            return {}
        mask = np.ones((self.shapes[0][0], len(self.shapes)), "float32")
        if len(self.shapes) > 1:
            mask[::2, -1] = 0.0
        return {"presence": mask}

    def keras_inputs(self, sizes_known=True):
        shapes = [
            shape[1:] if sizes_known else (*[None] * (len(shape) - 2), shape[-1])
            for shape in self.shapes
        ]
        images = [keras.Input(shape, name=f"x{i}") for i, shape in enumerate(shapes)]
        masks = {}
        if self.presence:
            masks["presence"] = keras.Input((len(images),), name="presence")
        return images, masks

    def batch(self, seed=0):
        """The inputs of a Functional model made from `keras_inputs`."""
        images = self.inputs(seed)
        images = images if isinstance(images, list) else [images]
        return images + list(self.masks().values())


def check_configuration(case):
    """Arguments are kept, and the configuration says all of it, also as JSON."""
    layer = case.make()
    config = layer.get_config()
    for name, parameter in inspect.signature(case.layer_cls).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        assert name in config, f"get_config() leaves out {name!r}"
        given = case.init_kwargs.get(name, parameter.default)
        assert hasattr(layer, name), f"argument {name!r} is not kept under its name"
        kept = getattr(layer, name)
        if isinstance(given, PLAIN) and isinstance(kept, type(given)):
            assert kept == given, f"{name}: given {given!r}, kept {kept!r}"
            assert config[name] == given

    text = json.dumps(config, sort_keys=True)
    for source in (config, json.loads(text)):
        again = case.layer_cls.from_config(source)
        assert json.dumps(again.get_config(), sort_keys=True) == text

    serialized = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    name = f"drifa_keras>{case.layer_cls.__name__}"
    assert serialized["registered_name"] == name
    again = keras.saving.deserialize_keras_object(serialized)
    assert type(again) is case.layer_cls
    assert json.dumps(again.get_config(), sort_keys=True) == text

    half = case.layer_cls.from_config(case.make(dtype="mixed_float16").get_config())
    assert half.dtype_policy.name == "mixed_float16"


def check_build(case, expected_params=None):
    """`build()` alone makes every weight, the same as a call makes."""
    built = case.make()
    built.build(case.unknown_batch())
    assert built.built
    shapes = weight_shapes(built)
    built(case.inputs(), **case.masks())
    assert weight_shapes(built) == shapes, "a call after build() made weights"
    called = case.make()
    called(case.inputs(), **case.masks())
    assert weight_shapes(called) == shapes, "build() and a call make other weights"
    paths = Counter(weight.path for weight in called.weights)
    assert max(paths.values(), default=1) == 1, f"paths used twice: {paths}"
    if expected_params is not None:
        assert called.count_params() == expected_params


def check_shapes(case, expected_shape=None, expected_dtypes=None):
    """Symbolic, eager and computed shapes and dtypes agree."""
    layer = case.make()
    eager = layer(case.inputs(), **case.masks())
    eager_shapes = [tuple(x.shape) for x in tree.flatten(eager)]
    if expected_shape is not None:
        wanted = (
            expected_shape if isinstance(expected_shape, list) else [expected_shape]
        )
        assert eager_shapes == wanted
    images, masks = case.keras_inputs()
    for fresh in (layer, case.make()):
        symbolic = fresh(case.one_or_list(images), **masks)
        tree.assert_same_structure(eager, symbolic)
        for x, shape in zip(tree.flatten(symbolic), eager_shapes, strict=True):
            assert tuple(x.shape) == (None, *shape[1:])
        check_dtypes(layer, symbolic, expected_dtypes)
    check_dtypes(layer, eager, expected_dtypes)
    computed = case.make().compute_output_shape(case.unknown_batch())
    computed = computed if isinstance(eager, list) else [computed]
    assert [tuple(shape) for shape in computed] == [
        (None, *shape[1:]) for shape in eager_shapes
    ]


def check_dtypes(layer, outputs, expected_dtypes=None):
    """Every output has the dtype it should have, by default the compute dtype."""
    outputs = tree.flatten(outputs)
    for x, wanted in zip(
        outputs, expected_dtypes or [None] * len(outputs), strict=True
    ):
        dtype = keras.backend.standardize_dtype(x.dtype)
        wanted = wanted or layer.compute_dtype
        assert dtype == wanted, f"{dtype} under {layer.dtype_policy.name}"


def check_state(case, stochastic=False):
    """A call moves no weights but BatchNormalization's and seeds, and when it may."""
    layer = case.make()
    layer.build(case.unknown_batch())
    randomise(layer)
    before = {v.path: as_numpy(v) for v in layer.variables}
    first = layer(case.inputs(), training=False, **case.masks())
    second = layer(case.inputs(), training=False, **case.masks())
    if not stochastic:
        assert_close(second, first, 0)
    for variable in layer.variables:
        if not (stochastic and variable.path.endswith("seed_generator_state")):
            assert np.array_equal(as_numpy(variable), before[variable.path]), (
                f"{variable.path} moved at inference"
            )
    layer(case.inputs(), training=True, **case.masks())
    for variable in layer.variables:
        if not variable.path.endswith(MOVING_STATE):
            assert np.array_equal(as_numpy(variable), before[variable.path]), (
                f"{variable.path} moved in a call"
            )


def check_numbers(case):
    """Outputs are finite on blank and on very large maps."""
    layer = case.make()
    layer.build(case.unknown_batch())
    for scale in (0.0, 1e4):
        for training in (False, True):
            outputs = layer(case.inputs(scale=scale), training=training, **case.masks())
            for x in tree.flatten(outputs):
                assert np.all(np.isfinite(as_numpy(x))), f"inputs times {scale}"


def check_mixed_precision(case, expected_dtypes=None, stochastic=False):
    """Weights stay float32, the outputs have the compute dtype and about its values."""
    reference = case.make()
    reference.build(case.unknown_batch())
    randomise(reference)
    wanted = reference(case.inputs(), training=False, **case.masks())
    for policy, tolerance in HALF_PRECISION.items():
        layer = case.make(dtype=policy)
        layer.build(case.unknown_batch())
        layer.set_weights(reference.get_weights())
        for child in layer._flatten_layers():
            assert child.dtype_policy.name == policy, f"{child.path} has its own policy"
        for weight in layer.weights:
            if keras.backend.is_float_dtype(weight.dtype):
                assert weight.dtype == "float32", f"{weight.path} is {weight.dtype}"
        images, masks = case.keras_inputs()
        symbolic = layer(case.one_or_list(images), **masks)
        model = keras.Model(images + list(masks.values()), symbolic)
        outputs = model.predict_on_batch(case.batch())
        check_dtypes(layer, outputs, expected_dtypes)
        check_dtypes(layer, symbolic, expected_dtypes)
        if not stochastic:
            for x, y in zip(tree.flatten(outputs), tree.flatten(wanted), strict=True):
                y = as_numpy(y)
                assert_close(x, y, tolerance * max(1.0, np.abs(y).max()))


def check_functional(case, tmp_path, stochastic=False, any_size=True):
    """The layer in a Functional model equals the layer itself, also when reloaded."""
    images, masks = case.keras_inputs()
    layer = case.make()
    outputs = layer(case.one_or_list(images), **masks)
    randomise(layer)
    model = keras.Model(images + list(masks.values()), outputs)
    path = tmp_path / f"{case.layer_cls.__name__}.keras"
    model.save(path)
    loaded = keras.saving.load_model(path)
    assert weight_shapes(loaded) == weight_shapes(model)
    if stochastic:
        return
    wanted = layer(case.inputs(), training=False, **case.masks())
    predicted = model.predict_on_batch(case.batch())
    assert_close(predicted, wanted, 1e-5)
    assert_close(loaded(case.batch(), training=False), wanted, 1e-6)

    if not any_size:
        return
    images, masks = case.keras_inputs(sizes_known=False)
    outputs = layer(case.one_or_list(images), **masks)
    model = keras.Model(images + list(masks.values()), outputs)
    assert_close(model(case.batch(), training=False), wanted, 1e-5)


def check_training(case, unmoved=(), differentiable=True):
    """One compiled step has a finite loss and moves every trainable weight."""
    model = training_model(case, case.make(), differentiable)
    before = {v.path: as_numpy(v) for v in model.trainable_variables}
    train_once(case, model)
    for variable in model.trainable_variables:
        if any(variable.path.endswith(end) for end in unmoved):
            continue
        moved = as_numpy(variable) != before[variable.path]
        # Matrices packed into one variable, one by one.
        packed = moved.ndim == 3 or variable.path.endswith("omega")
        parts = moved if packed else [moved]
        assert all(np.any(part) for part in parts), (
            f"a training step left {variable.path} where it was, in whole or in part"
        )
    train_once(
        case, training_model(case, case.make(dtype="mixed_float16"), differentiable)
    )


def training_model(case, layer, differentiable):
    """A compiled model around the layer.

    A layer without weights stands behind channel-wise Dense layers, so that gradients
    have to pass through it, or before one where they cannot.
    """
    images, masks = case.keras_inputs()
    streams = images
    layer.build(case.unknown_batch())
    if not layer.trainable_weights and differentiable:
        streams = [keras.layers.Dense(x.shape[-1])(x) for x in images]
    outputs = tree.flatten(layer(case.one_or_list(streams), **masks))
    outputs = [keras.layers.Flatten()(x) for x in outputs]
    output = keras.layers.Concatenate()(outputs) if len(outputs) > 1 else outputs[0]
    if not layer.trainable_weights and not differentiable:
        output = keras.layers.Dense(2)(output)
    model = keras.Model(images + list(masks.values()), output)
    model.compile(
        optimizer=keras.optimizers.SGD(0.1),
        loss=lambda y, p: ops.sum(ops.square(y - ops.cast(p, y.dtype)), axis=-1),
    )
    return model


def train_once(case, model):
    """One step on random targets; loss and variables have to stay finite."""
    generator = np.random.default_rng(1)
    targets = generator.standard_normal((case.shapes[0][0], *model.output.shape[1:]))
    loss = model.train_on_batch(case.batch(), targets.astype("float32"))
    assert np.isfinite(loss)
    for variable in model.variables:
        assert np.all(np.isfinite(as_numpy(variable))), f"{variable.path} not finite"


def as_numpy(x):
    """A tensor or variable as a NumPy array; half precisions as float32."""
    if not isinstance(x, np.ndarray):
        if keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype)):
            x = ops.cast(x, "float32")
        x = ops.convert_to_numpy(x)
    return np.array(x)


def exact(weight):
    """A weight in float64, for the oracle."""
    return as_numpy(weight).astype("float64")


def assert_close(actual, desired, tolerance=1e-5):
    """Two tensors, or lists of tensors, agree to an absolute and relative tolerance."""
    actual, desired = tree.flatten(actual), tree.flatten(desired)
    assert len(actual) == len(desired)
    for x, y in zip(actual, desired, strict=True):
        np.testing.assert_allclose(
            as_numpy(x), as_numpy(y), atol=tolerance, rtol=tolerance
        )


def random_map(shape, seed=0):
    """A float32 map of normal numbers."""
    generator = np.random.default_rng(seed)
    return (2 * generator.standard_normal(shape)).astype("float32")


def random_maps(count, shape=(2, 5, 7, 4), seed=0):
    """A list of such maps, one a modality."""
    return [random_map(shape, seed + index) for index in range(count)]


def momenta(model):
    """The momentum of every batch normalisation in a model."""
    return [
        layer.momentum
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]


def weight_shapes(layer):
    """The shapes of all weights, in their order."""
    return [tuple(weight.shape) for weight in layer.weights]


def randomise(layer, seed=7, scale=0.6):
    """Give every weight a random value, where it has to be positive a positive one."""
    generator = np.random.default_rng(seed)
    for weight in layer.weights:
        value = scale * generator.standard_normal(weight.shape)
        if weight.path.endswith(("variance", "temperature")):
            value = 0.5 + np.abs(value)
        weight.assign(value.astype("float32"))
    return layer


def built(layer, shape):
    """The layer, built for a shape (or list of shapes) and filled at random."""
    layer.build(shape)
    return randomise(layer)


def hifa_symbols(layer):
    """The arguments w, b, wf, bf of `oracle.hifa`."""
    kernel, bias = exact(layer.kernel), exact(layer.bias)
    final = np.concatenate([kernel[4], kernel[5]], axis=0)
    return kernel[:4], bias[:4], final, bias[4]


def clia_symbols(layer):
    """The arguments v, c of `oracle.clia`."""
    return exact(layer.kernel), exact(layer.bias)


def pooling_symbols(layer):
    """Matrices and biases by pooling: MGIFA, and MLIFA with windows."""
    kernel, bias = exact(layer.kernel), exact(layer.bias)
    if len(kernel) == 1:
        kernel, bias = np.repeat(kernel, 3, axis=0), np.repeat(bias, 3, axis=0)
    order = ("max", "avg", "min")
    return dict(zip(order, kernel, strict=True)), dict(zip(order, bias, strict=True))


def omega_symbols(omega, sizes):
    """The parts of a packed omega, 1.0 for those of size 0."""
    omega = np.zeros(0) if omega is None else exact(omega)
    assert omega.shape == (sum(sizes.values()),)
    symbols, start = {}, 0
    for name, size in sizes.items():
        symbols[name] = omega[start : start + size] if size else 1.0
        start += size
    return symbols


def expected_mfa(
    layer,
    x,
    hifa=True,
    clia=True,
    omega_d=True,
    omega_l=True,
    omega_c=True,
    activation="sigmoid",
):
    """What an MFA layer made with these arguments should give, by the oracle."""
    channels = x.shape[-1]
    sizes = {
        "omega_d": 1 if hifa and omega_d else 0,
        "omega_l": channels if clia and omega_l else 0,
        "omega_c": channels if omega_c else 0,
    }
    branches = {}
    if hifa:
        branches["hifa"] = oracle.hifa(
            x, *hifa_symbols(layer.hifa), oracle.ACTIVATIONS[activation]
        )
    if clia:
        branches["clia"] = oracle.clia(x, *clia_symbols(layer.clia))
    omega = getattr(layer, "omega", None)
    return oracle.mfa(x, **branches, **omega_symbols(omega, sizes))


def expected_mlifa(layer, xs, local_window=3, presence=None):
    """What an MLIFA layer with this window should give, by the oracle."""
    if local_window is None:
        kernel, bias = exact(layer.kernel), exact(layer.bias)
        return oracle.mlifa_global(xs, kernel, bias, presence)
    return oracle.mlifa(xs, *pooling_symbols(layer), local_window, presence)


def expected_mifa(
    layer,
    xs,
    presence=None,
    mgifa=True,
    mlifa=True,
    omega_d=True,
    omega_l=True,
    omega_c=True,
    local_window=3,
    shared_fc=False,
):
    """What a MIFA layer made with these arguments should give, by the oracle."""
    streams, channels = len(xs), xs[0].shape[-1]
    sizes = {
        "omega_d": 1 if mgifa and omega_d else 0,
        "omega_l": channels if mlifa and omega_l else 0,
        "omega_c": streams * channels if omega_c else 0,
    }
    symbols = omega_symbols(getattr(layer, "omega", None), sizes)
    if omega_c:
        symbols["omega_c"] = symbols["omega_c"].reshape(streams, channels)
    else:
        symbols["omega_c"] = None
    branches = {}
    if mgifa:
        assert layer.mgifa.kernel.shape[0] == (1 if shared_fc else 3)
        branches["g"] = oracle.mgifa(xs, *pooling_symbols(layer.mgifa), presence)
    if mlifa:
        branches["local"] = expected_mlifa(layer.mlifa, xs, local_window, presence)
    return oracle.mifa(xs, **branches, **symbols, presence=presence)


def expected_heads(model, streams):
    """What the heads of a network make of its last maps: probabilities by task."""
    features = np.concatenate(list(streams.values()), axis=-1).mean(axis=(1, 2))
    outputs = {}
    for task in model.tasks:
        head = model.get_layer(f"{task}_logits")
        logits = features @ exact(head.kernel) + exact(head.bias)
        logits /= exact(model.get_layer(f"{task}_head").temperature)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        outputs[task] = powers / powers.sum(axis=1, keepdims=True)
    return outputs


def trace_nothing(model):
    """Lets a model that a test runs once step eagerly where tracing takes longer."""
    model.run_eagerly = keras.backend.backend() == "tensorflow"
