"""Writing a network for other runtimes, through what Keras itself exports."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
import tempfile
from pathlib import Path

import keras

from drifa_keras.layers import seed_states


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of `keras.Model.export`.

    Attributes:
        name: What Keras calls it.
        suffix: Of the file; empty for a folder.
        backends: On which it was seen to agree with the network.
        keras: The first version of Keras that can write it.
        needs: Packages that Keras needs to write it.
        draws: Backends on which networks that are random at inference stay so.
    """

    name: str
    suffix: str
    backends: tuple[str, ...]
    keras: tuple[int, int]
    needs: tuple[str, ...] = ()
    draws: tuple[str, ...] = ()

    @property
    def keras_suffices(self) -> bool:
        """Whether the Keras that is installed can write it."""
        return tuple(map(int, keras.__version__.split(".")[:2])) >= self.keras


FORMATS = {
    form.name: form
    for form in (
        Format(
            "tf_saved_model",
            "",
            ("tensorflow", "jax"),
            (3, 10),
            ("tensorflow",),
            draws=("tensorflow",),
        ),
        Format("onnx", ".onnx", ("tensorflow",), (3, 10), ("tf2onnx",)),
        Format("litert", ".tflite", ("tensorflow",), (3, 13)),
        Format("torch", ".pt2", ("torch",), (3, 15)),
    )
}


def default_name(format: str) -> str:
    """What an exported network is called if nobody says otherwise."""
    form = _format(format)
    return f"model{form.suffix}" if form.suffix else "saved_model"


def export(
    model: keras.Model, path: str | Path, format: str, quantize: bool = False
) -> Path:
    """Writes a network for a runtime that needs neither Keras nor this package.

    The file holds the weights and all that stands between pixels 0..255 and
    probabilities: rescaling, the presence of modalities, calibrated temperatures.
    Dropout is off. Inputs are called as the modalities, outputs as the tasks; the
    number of images in a batch is free, but in `"torch"` files 1.

    The network is Keras' own business: this calls `keras.Model.export`, on the
    backends on which the result is known to agree, and puts the file into its place
    when it is whole.

    Args:
        model: A `MultimodalModel`, or another Functional model of named inputs.
        path: File or, for `"tf_saved_model"`, folder to make; nothing is overwritten.
        format: A key of `FORMATS`: `"tf_saved_model"` (TensorFlow, JAX), `"onnx"`,
            `"litert"` (TensorFlow) or `"torch"` (PyTorch). A model trained on one
            backend loads on any other.
        quantize: Whether weights are stored as 8-bit integers (`"litert"`), which
            makes the file about four times smaller.

    Returns:
        The path.

    Raises:
        ValueError: If the format or the path is not usable, the backend cannot write
            it, or the network is random at inference and would not be there.
        ImportError: If a package is missing, or this Keras cannot write the format.
    """
    form = _format(format)
    path = Path(path)
    if path.suffix != form.suffix:
        wanted = f"end with {form.suffix}" if form.suffix else "be a folder"
        raise ValueError(
            f"The path of a {format!r} export must {wanted}. Received: {path}."
        )
    if path.exists():
        raise ValueError(f"{path} exists already. Choose another name.")
    if quantize and format != "litert":
        raise ValueError(
            f'`quantize` is for `format="litert"`. Received: format={format!r}.'
        )
    backend = keras.backend.backend()
    if backend not in form.backends:
        raise ValueError(
            f"{format!r} is exported on {' or '.join(form.backends)}. The backend is "
            f"{backend}. Save the model and load it there: `drifa export --backend "
            f"{form.backends[0]}`, or KERAS_BACKEND={form.backends[0]}."
        )
    for name in form.needs:
        if importlib.util.find_spec(name) is None:
            raise ImportError(
                f'{format!r} needs {name}. Try pip install "drifa_keras[deployment]".'
            )
    if backend not in form.draws and seed_states(model, ["draw_generator"]):
        raise ValueError(
            "The network draws random kernels or noise in every call, which a "
            f"{format!r} file written on {backend} would not. Use "
            '`format="tf_saved_model"` on TensorFlow.'
        )
    if format == "onnx" and model.dtype_policy.compute_dtype != "float32":
        raise ValueError(
            "An ONNX file is written of float32 networks. The network computes in "
            f"{model.dtype_policy.compute_dtype}. Build one with dtype='float32' and "
            "give it the weights."
        )
    if not form.keras_suffices:
        needed = ".".join(map(str, form.keras))
        raise ImportError(
            f"{format!r} needs Keras {needed}. There is {keras.__version__}. Try pip "
            f'install "keras>={needed}".'
        )
    if format == "onnx":  # of which Keras wants the network called before
        model(
            keras.tree.map_structure(
                lambda x: keras.ops.zeros((1, *x.shape[1:]), x.dtype), model.input
            )
        )
    options = {}
    if quantize:
        import tensorflow as tf

        options["optimizations"] = [tf.lite.Optimize.DEFAULT]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export") as folder:
        part = Path(folder) / path.name
        model.export(str(part), format=format, verbose=False, **options)
        shutil.move(part, path)
    return path


def _format(name) -> Format:
    if name not in FORMATS:
        raise ValueError(
            f"`format` must be one of {list(FORMATS)}. Received: {name!r}."
        )
    return FORMATS[name]
