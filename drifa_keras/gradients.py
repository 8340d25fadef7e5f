"""Gradients with regard to the inputs of a model, on TensorFlow, JAX and PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops


def value_and_grad(
    function: Callable,
    model: keras.Model,
    wrt: Sequence[str] | None = None,
    training: bool = False,
) -> Callable:
    """Makes the function that evaluates and differentiates a model's outputs.

    The weights and the state of the model stay as they are: batch normalisation
    keeps its statistics and seeds do not advance, so that dropout under
    `training=True` draws the same mask in every call. Weights are read anew in each
    call. The function is compiled by TensorFlow (`tf.function`) and JAX (`jax.jit`),
    once for each shape of its arguments.

    Args:
        function: Function `(outputs, *arguments) -> values` in `keras.ops`, with the
            outputs of the model as it returns them and one value a sample, `(n,)`.
        model: A Functional model, such as `MultimodalModel.logits_model`, or a built
            Sequential.
        wrt: Names of the inputs to differentiate with regard to; all by default.
        training: Whether to run the model as in training. Batch normalisation then
            makes samples depend on each other, and a gradient is that of the sum of
            all values.

    Returns:
        Function `(inputs, *arguments) -> (values, gradients, outputs)`. `inputs` is a
        dict of arrays keyed by the names of the model's inputs, `arguments` are
        arrays or structures of them; `values` is `(n,)`, `gradients` a dict of float
        tensors of the shapes of the inputs, zero where nothing leads from an input to
        the values, and `outputs` are those of the model. All are tensors of the
        backend.

    Raises:
        ValueError: If the model has no graph, `wrt` names no input, or the inputs are
            not those of the model.

    Example:
    ```python
    def loss(logits, labels):
        return keras.losses.sparse_categorical_crossentropy(
            labels, logits["skin_lesion"], from_logits=True
        )

    gradient_of = value_and_grad(loss, model.logits_model)
    losses, gradients, logits = gradient_of({"dermoscopy": x, "ct": z}, labels)
    ```
    """
    model = with_named_inputs(model)
    dtypes = {name: tensor.dtype for name, tensor in model.input.items()}
    wrt = list(dtypes) if wrt is None else list(wrt)
    unknown = [name for name in wrt if name not in dtypes]
    if unknown or not wrt:
        raise ValueError(
            f"`wrt` names inputs of the model, some of {list(dtypes)}. Received: "
            f"wrt={wrt}."
        )

    def forward(trainable, non_trainable, moved, fixed, arguments):
        outputs, _ = model.stateless_call(
            _values(model.trainable_variables, trainable),
            _values(model.non_trainable_variables, non_trainable),
            {**moved, **fixed},
            training=training,
        )
        values = ops.cast(function(outputs, *arguments), "float32")
        return ops.sum(values), (values, outputs)

    differentiate = _DIFFERENTIATE[keras.backend.backend()](forward)

    def value_and_gradients(inputs, *arguments):
        if not isinstance(inputs, dict) or set(inputs) != set(dtypes):
            received = sorted(inputs) if isinstance(inputs, dict) else type(inputs)
            raise ValueError(
                f"`inputs` must be a dict with the keys {list(dtypes)}. Received: "
                f"{received}."
            )
        tensors = {
            name: ops.convert_to_tensor(inputs[name], dtype=dtype)
            for name, dtype in dtypes.items()
        }
        moved = {name: tensors.pop(name) for name in wrt}
        gradients, (values, outputs) = differentiate(
            _handed(model.trainable_variables),
            _handed(model.non_trainable_variables),
            moved,
            tensors,
            keras.tree.map_structure(ops.convert_to_tensor, list(arguments)),
        )
        return values, gradients, outputs

    return value_and_gradients


def stateless(model: keras.Model) -> Callable:
    """Makes the function that evaluates a model at inference and moves nothing.

    Like `value_and_grad` it is compiled, and reads weights and seeds anew in each
    call: with equal seeds a random model draws the same every time.

    Args:
        model: A Functional model or a built Sequential.

    Returns:
        Function of a dict of arrays keyed by the names of the model's inputs that
        returns what the model does, as tensors.

    Raises:
        ValueError: If the model has no graph.
    """
    model = with_named_inputs(model)
    dtypes = {name: tensor.dtype for name, tensor in model.input.items()}

    def forward(trainable, non_trainable, inputs):
        outputs, _ = model.stateless_call(
            _values(model.trainable_variables, trainable),
            _values(model.non_trainable_variables, non_trainable),
            inputs,
            training=False,
        )
        return outputs

    forward = _COMPILE[keras.backend.backend()](forward)

    def call(inputs):
        return forward(
            _handed(model.trainable_variables),
            _handed(model.non_trainable_variables),
            {
                name: ops.convert_to_tensor(inputs[name], t)
                for name, t in dtypes.items()
            },
        )

    return call


def with_named_inputs(model: keras.Model) -> keras.Model:
    """Makes a view of a model that shares its weights and takes a dict of inputs.

    Args:
        model: A Functional model or a built Sequential.

    Returns:
        A Functional model with the inputs as a dict keyed by their names, and the
        outputs as they were.

    Raises:
        ValueError: If the model is of another kind.
    """
    if isinstance(model, keras.Sequential) and model.built:
        outputs = model.outputs[0]
    elif isinstance(model, keras.Function):
        outputs = model.output
    else:
        raise ValueError(
            "A Functional model or a built Sequential is needed, whose graph says how "
            f"outputs follow from inputs. Received: {type(model).__name__}. Build it "
            "with `keras.Model(inputs, outputs)`."
        )
    return keras.Model({tensor.name: tensor for tensor in model.inputs}, outputs)


def named_arrays(model: keras.Model, x) -> dict[str, np.ndarray]:
    """Checks the images of a model and keys them by the names of its inputs.

    Args:
        model: A Functional model.
        x: Dict of arrays keyed by the names of the inputs, a list of arrays in the
            order of the inputs, or the one array of a model with one input.

    Returns:
        Dict of NumPy arrays, in the order of the model's inputs.

    Raises:
        ValueError: If names, shapes or the numbers of samples do not fit.
    """
    shapes = {tensor.name: tuple(tensor.shape) for tensor in model.inputs}
    if not isinstance(x, dict):
        arrays = list(x) if isinstance(x, (list, tuple)) else [x]
        if len(arrays) != len(shapes):
            raise ValueError(
                f"The model has {len(shapes)} inputs. Received: {len(arrays)}. Pass a "
                f"dict with the keys {list(shapes)}."
            )
        x = dict(zip(shapes, arrays, strict=True))
    if set(x) != set(shapes):
        odd = sorted(set(x) ^ set(shapes), key=str)[0]
        raise ValueError(
            f"{'Unknown' if odd in x else 'Missing'} input {odd!r}. The model has the "
            f"inputs {list(shapes)}. Received: {sorted(x, key=str)}. An absent image "
            "is one of zeros."
        )
    arrays = {name: _as_numpy(x[name]) for name in shapes}
    for name, wanted in shapes.items():
        shape = arrays[name].shape
        if len(shape) != len(wanted) or any(
            size not in (None, received)
            for size, received in zip(wanted[1:], shape[1:], strict=True)
        ):
            raise ValueError(
                f"Input {name!r} takes arrays of shape {wanted}. Received: {shape}."
            )
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1 or not all(lengths.values()):
        raise ValueError(
            f"All inputs need equally many samples, at least one. Received: {lengths}."
        )
    return arrays


def outputs_by_task(model: keras.Model) -> dict:
    """The outputs of a Functional model by their keys, or else their names."""
    if isinstance(model.output, dict):
        return model.output
    return dict(zip(model.output_names, model.outputs, strict=True))


def in_batches(
    function: Callable, *arrays, batch_size: int = 32, ever_other: bool = False
):
    """Applies a function of batches to whole arrays.

    Args:
        function: Function of as many arguments as there are `arrays`, each with
            `batch_size` rows, or all rows where there are fewer. It returns a
            structure of arrays or tensors with as many rows.
        *arrays: Arrays, or structures of arrays, with equally many rows.
        batch_size: Rows at a time. The last batch is filled up with its last row,
            and what comes of that is dropped, so that one compilation serves all.
        ever_other: Whether calls come with ever other numbers of rows. Then JAX gets
            `batch_size` rows even where all are fewer, and the other backends, which
            need not compile anew for each number, no more than there are.

    Returns:
        The structure that `function` returns, of NumPy arrays with all rows.
    """
    count = len(keras.tree.flatten(arrays)[0])
    if not isinstance(batch_size, int) or batch_size < 1 or not count:
        raise ValueError(
            "`batch_size` must be a positive integer, and there must be a row. "
            f"Received: batch_size={batch_size!r}, {count} rows."
        )
    compiles = keras.backend.backend() == "jax"
    size = batch_size if ever_other and compiles else min(batch_size, count)
    results = []
    for start in range(0, count, size):
        rows = np.arange(start, start + size)
        if ever_other and not compiles:
            rows = rows[rows < count]
        rows = np.minimum(rows, count - 1)
        batch = keras.tree.map_structure(lambda x: np.asarray(x)[rows], arrays)  # noqa: B023
        results.append(keras.tree.map_structure(ops.convert_to_numpy, function(*batch)))
    return keras.tree.map_structure(
        lambda *parts: np.concatenate(parts)[:count], *results
    )


def _as_numpy(array):
    return array if isinstance(array, np.ndarray) else ops.convert_to_numpy(array)


def _handed(variables):
    """The values of variables that a compiled function is handed, by their numbers.

    TensorFlow reads variables by itself, which is faster than to hand it hundreds: it
    gets only what a `StatelessScope` holds in place of a variable.
    """
    values = {str(number): v.value for number, v in enumerate(variables)}
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        values = {k: v for k, v in values.items() if not isinstance(v, tf.Variable)}
    return values


def _values(variables, handed):
    """The values of all variables, from what was handed."""
    found = [handed.get(str(number)) for number in range(len(variables))]
    return [
        v.value if value is None else value
        for v, value in zip(variables, found, strict=True)
    ]


def _compile_with_tensorflow(function):
    import tensorflow as tf

    return tf.function(function, autograph=False, reduce_retracing=True)


def _compile_with_jax(function):
    import jax

    return jax.jit(function)


def _compile_with_torch(function):
    import torch

    return torch.no_grad()(function)


def _with_tensorflow(forward):
    import tensorflow as tf

    @_compile_with_tensorflow
    def differentiate(trainable, non_trainable, moved, *rest):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(moved)
            total, results = forward(trainable, non_trainable, moved, *rest)
        gradients = tape.gradient(
            total, moved, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        return gradients, results

    return differentiate


def _with_jax(forward):
    import jax

    gradient = jax.value_and_grad(forward, argnums=2, has_aux=True)

    @_compile_with_jax
    def differentiate(*arguments):
        (_, results), gradients = gradient(*arguments)
        return gradients, results

    return differentiate


def _with_torch(forward):
    import torch

    def differentiate(trainable, non_trainable, moved, *rest):
        # Detached, the weights cost neither memory nor time in the backward pass.
        trainable, non_trainable = (
            {number: value.detach() for number, value in values.items()}
            for values in (trainable, non_trainable)
        )
        moved = {name: x.detach().requires_grad_() for name, x in moved.items()}
        gradients = [torch.zeros_like(x) for x in moved.values()]
        with torch.enable_grad():
            total, results = forward(trainable, non_trainable, moved, *rest)
            if total.requires_grad:  # else nothing leads from the inputs to it
                gradients = torch.autograd.grad(
                    total, moved.values(), allow_unused=True, materialize_grads=True
                )
        results = keras.tree.map_structure(lambda x: x.detach(), results)
        return dict(zip(moved, gradients, strict=True)), results

    return differentiate


_DIFFERENTIATE = {
    "tensorflow": _with_tensorflow,
    "jax": _with_jax,
    "torch": _with_torch,
}

_COMPILE = {
    "tensorflow": _compile_with_tensorflow,
    "jax": _compile_with_jax,
    "torch": _compile_with_torch,
}
