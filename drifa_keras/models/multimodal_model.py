"""The base of every network here: dict in, dict out."""

import functools
import re
import warnings

import keras
import numpy as np

from drifa_keras.graph_optimizer import without_graph_optimizer
from drifa_keras.layers import (
    ImagePresence,
    ModalityDropout,
    TemperatureSoftmax,
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@keras.saving.register_keras_serializable(package="drifa_keras")
class MultimodalModel(keras.Model):
    """A Functional model from one image a modality to probabilities a task.

    A task classifies the whole case, or every pixel: that depends on the features that
    its head reads.

    Its graph is built between two calls: `open_streams` makes the inputs, and this
    constructor adds the heads to the features computed from them. A subclass does
    both in its own constructor; without one, the model can be saved just the same.

    Inputs are a dict keyed by modality, with pixels from 0 to 255 and an all-zero
    image for an absent one; outputs are a dict of probabilities keyed by task. Keys,
    rank, size, channels and, for NumPy arrays, the range of the pixels are checked
    before Keras sees the data.

    Args:
        inputs: Dict of the `keras.Input`s, as `open_streams` makes them.
        features: What the heads read, or a dict of it by task: a tensor `(batch,
            units)`, or a map `(batch, height, width, channels)`, of which every pixel
            is classified.
        modalities: Dict of modality name to image shape `(height, width,
            channels)`, with 1 or 3 channels.
        tasks: Dict of task name to number of classes, at least 2.
        modality_dropout: Probability with which training blanks a modality.
        rescaling: Factor on the pixels. `None` leaves them as they come, and turns
            the check of their range off.
        dtype: Dtype policy of the network, such as `"mixed_bfloat16"`; the global
            one by default. Heads are float32.
        name: Name of the model.
        trainable: Whether the weights are trained.

    Attributes:
        modalities: As given, in sorted order.
        tasks: As given, in sorted order.
        maps: Names of the tasks that classify every pixel.
        logits_model: Model that shares all weights and returns the raw logits.

    Example:
    ```python
    modalities = {"ct": (64, 64, 1), "mri": (64, 64, 1)}
    inputs, streams, presence = MultimodalModel.open_streams(modalities)
    maps = [keras.layers.Conv2D(16, 3)(x) for x in streams.values()]
    maps = drifa_keras.layers.MIFA()(maps, presence=presence)
    fused = drifa_keras.layers.StreamConcatenate()(maps, presence=presence)
    features = keras.layers.GlobalAveragePooling2D()(fused)
    model = MultimodalModel(inputs, features, modalities, {"tumor": 4})
    ```
    """

    def __init__(
        self,
        inputs,
        features,
        modalities,
        tasks,
        modality_dropout=0.0,
        rescaling=1 / 255,
        dtype=None,
        name=None,
        trainable=True,
    ):
        modalities = check_modalities(modalities)
        tasks = check_tasks(tasks)
        outputs = {}
        for task, classes in tasks.items():
            x = features[task] if isinstance(features, dict) else features
            outputs[task] = self.make_head(task, classes, x)
        try:
            super().__init__(inputs=inputs, outputs=outputs, name=name)
        except ValueError as error:
            if "unique" not in str(error):
                raise
            raise ValueError(
                f"The modalities {list(modalities)} and tasks {list(tasks)} give two "
                "layers one name: a name may not be another with a suffix such as "
                f"`_head`, `_logits` or `_stem_conv`. Rename one. ({error})"
            ) from error
        self.modalities = modalities
        self.tasks = tasks
        # Metrics are keyed by task; older Keras looks for them among these.
        self.output_names = list(outputs)
        self.modality_dropout = modality_dropout
        self.rescaling = rescaling
        self.dtype_policy = keras.dtype_policies.get(dtype)
        if not trainable:  # True would free what a backbone has frozen
            self.trainable = False

    @staticmethod
    def make_head(task, classes, features):
        """Makes the head of a task, the layers `<task>_logits` and `<task>_head`.

        Args:
            task: Its name.
            classes: Number of its classes.
            features: As for the constructor, for this task.

        Returns:
            Tensor of probabilities `(batch, ..., classes)`.
        """
        name, options = f"{task}_logits", {"dtype": "float32"}
        if len(features.shape) == 4:
            options["data_format"] = "channels_last"
            head = keras.layers.Conv2D(classes, 1, name=name, **options)
        else:
            head = keras.layers.Dense(classes, name=name, **options)
        return TemperatureSoftmax(name=f"{task}_head")(head(features))

    @staticmethod
    def open_streams(modalities, modality_dropout=0.0, rescaling=1 / 255, dtype=None):
        """Makes the inputs of a network.

        Args:
            modalities: As for the constructor.
            modality_dropout: As for the constructor.
            rescaling: As for the constructor.
            dtype: Dtype policy of the streams.

        Returns:
            Tuple of the dict of inputs, the dict of rescaled streams in sorted
            order, and the presence mask `(batch, m)`, `None` for one modality.
        """
        modalities = check_modalities(modalities)
        inputs = {
            name: keras.Input(shape, name=name, dtype="float32")
            for name, shape in modalities.items()
        }
        images = list(inputs.values())
        presence = None
        if modality_dropout:
            images = ModalityDropout(
                modality_dropout, dtype="float32", name="modality_dropout"
            )(images)
        if len(images) > 1:
            presence = ImagePresence(dtype="float32", name="presence")(images)
        streams = dict(zip(inputs, images, strict=True))
        if rescaling is not None:
            streams = {
                name: keras.layers.Rescaling(
                    rescaling, dtype=dtype, name=f"{name}_rescaling"
                )(image)
                for name, image in streams.items()
            }
        return inputs, streams, presence

    @classmethod
    def from_preset(cls, preset, modalities, tasks, **overrides):
        """Builds the network of a named preset, with fresh weights.

        Args:
            preset: Name of a preset; `drifa_keras.models.presets()` lists them.
            modalities: As for the constructor.
            tasks: As for the constructor.
            **overrides: Arguments that replace those of the preset.

        Returns:
            A model of the class of the preset, which is `cls` or a subclass of it.
        """
        from drifa_keras.models.presets import preset_arguments, preset_class

        arguments = preset_arguments(preset, cls)
        return preset_class(preset)(modalities, tasks, **{**arguments, **overrides})

    @property
    def maps(self):
        """Names of the tasks that classify every pixel."""
        return tuple(task for task in self.tasks if len(self.output[task].shape) == 4)

    @functools.cached_property
    def logits_model(self):
        """`keras.Model` with the same weights that returns a dict of raw logits."""
        # A cached property lives outside Keras' attribute tracking, so that the
        # view is neither saved nor counted as a layer.
        logits = {task: self.get_layer(f"{task}_logits").output for task in self.tasks}
        return keras.Model(self.input, logits, name=f"{self.name}_logits_view")

    def __call__(self, inputs, *args, **kwargs):
        self._check_images(inputs, values=False)
        return super().__call__(inputs, *args, **kwargs)

    def fit(self, x=None, y=None, *args, **kwargs):
        """Trains as `keras.Model.fit` does, after checking the data."""
        self._check(x, y, kwargs.get("sample_weight"))
        validation = kwargs.get("validation_data")
        if isinstance(validation, (tuple, list)):
            self._check(*validation)
        elif validation is not None:
            self._check(validation)
        self._build_metrics(x, y)
        return super().fit(x, y, *args, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """Evaluates as `keras.Model.evaluate` does, after checking the data."""
        self._check(x, y, kwargs.get("sample_weight"))
        return super().evaluate(x, y, *args, **kwargs)

    def predict(self, x, *args, **kwargs):
        """Predicts as `keras.Model.predict` does, after checking the data."""
        self._check(x)
        return super().predict(x, *args, **kwargs)

    def train_on_batch(self, x, y=None, *args, **kwargs):
        """Trains as `keras.Model.train_on_batch` does, after checking the data."""
        self._check(x, y, kwargs.get("sample_weight"))
        self._build_metrics(x, y)
        return super().train_on_batch(x, y, *args, **kwargs)

    def test_on_batch(self, x, y=None, *args, **kwargs):
        """Tests as `keras.Model.test_on_batch` does, after checking the data."""
        self._check(x, y, kwargs.get("sample_weight"))
        return super().test_on_batch(x, y, *args, **kwargs)

    def predict_on_batch(self, x):
        """Predicts as `keras.Model.predict_on_batch` does, after checking the data."""
        self._check(x)
        return super().predict_on_batch(x)

    def _build_metrics(self, x, y):
        """Makes the variables of loss and metrics ahead of the first step.

        TensorFlow traces the whole step a second time when the first trace makes
        variables.
        """
        if keras.backend.backend() != "tensorflow" or not self.compiled:
            return
        if y is None and hasattr(x, "element_spec"):
            _, y, _ = keras.utils.unpack_x_y_sample_weight(x.element_spec)
        if not isinstance(y, dict):
            return
        y = {
            task: np.zeros((1, *labels.shape[1:]), dtype="float32")
            for task, labels in y.items()
            if getattr(labels, "shape", None) is not None
        }
        if set(y) != set(self.tasks) or any(None in a.shape for a in y.values()):
            return
        predictions = {
            task: np.full((1, *x.shape[1:]), 1 / x.shape[-1], dtype="float32")
            for task, x in self.output.items()
        }
        self.compute_loss(None, y, predictions)
        self.compute_metrics(None, y, predictions)
        self.reset_metrics()

    def make_train_function(self, force=False):
        # The same for the optimizer.
        if self.optimizer is not None and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        made = self.train_function
        super().make_train_function(force=force)
        if self.train_function is not made:
            self.train_function = without_graph_optimizer(self.train_function)
        return self.train_function

    def get_compile_config(self):
        config = _portable(super().get_compile_config())
        if config:
            # Keras keeps what "auto" meant here. Elsewhere JAX would then run every
            # operation by itself, and PyTorch compile for a minute.
            config["jit_compile"] = "auto"
        return config

    def get_config(self):
        # Keras' own get_config of a Functional model lists its layers; a subclass is
        # described by its arguments instead.
        config = {
            "modalities": {
                name: list(shape) for name, shape in self.modalities.items()
            },
            "tasks": dict(self.tasks),
            "modality_dropout": self.modality_dropout,
            "rescaling": self.rescaling,
            "dtype": self.dtype_policy.name
            if type(self.dtype_policy) is keras.DTypePolicy
            else keras.dtype_policies.serialize(self.dtype_policy),
            "name": self.name,
            "trainable": self.trainable,
        }
        # What the user did to single layers, which the arguments do not say.
        frozen = [path for path, layer in _layers(self) if not layer.trainable]
        if frozen:
            config["frozen"] = frozen
        lora = {
            layer.name: _lora_arguments(layer)
            for layer in self.layers
            if getattr(layer, "lora_enabled", False)
        }
        if lora:
            config["lora"] = lora
        if type(self) is MultimodalModel:
            features = {
                task: self.get_layer(f"{task}_logits").input for task in self.tasks
            }
            config["network"] = keras.saving.serialize_keras_object(
                keras.Model(self.input, features, name="network")
            )
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        network = config.pop("network", None)
        frozen, lora = config.pop("frozen", []), config.pop("lora", {})
        if network is None:
            model = cls(**config)
        else:
            network = keras.saving.deserialize_keras_object(
                network, custom_objects=custom_objects
            )
            model = cls(network.input, network.output, **config)
        for name, arguments in lora.items():
            model.get_layer(name).enable_lora(**arguments)
        for path, layer in _layers(model):
            if layer.trainable == (path in frozen):
                layer.trainable = path not in frozen
        return model

    def _check(self, x, y=None, sample_weight=None):
        """Raises a `ValueError` for data that does not fit the model."""
        if isinstance(x, keras.utils.PyDataset):
            x = x[0]
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(x)
        elif hasattr(x, "element_spec"):  # tf.data
            self._check_first_pixels(x)
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(x.element_spec)
        elif not isinstance(x, (dict, list, tuple)) and not hasattr(x, "shape"):
            # A generator or a PyTorch DataLoader cannot be looked into without
            # taking a batch from it; `__call__` checks its batches.
            return
        self._check_images(x)
        self._check_targets(y, "targets")
        self._check_targets(sample_weight, "sample weights")

    def _check_images(self, images, values=True):
        if not isinstance(images, dict):
            raise ValueError(
                f"{self.name} takes a dict keyed by modality, {list(self.modalities)}. "
                f"Received: {type(images).__name__}. Pass "
                f"{{{next(iter(self.modalities))!r}: images, ...}}."
            )
        _check_keys(images, self.modalities, "modality", "modalities")
        for name, shape in self.modalities.items():
            check_images(name, images[name], shape)
            if values and self.rescaling is not None:
                check_pixels(name, images[name])

    def _check_first_pixels(self, dataset):
        """Checks the pixels of the first batch of a tf.data pipeline of floats.

        Pipelines often divide by 255, which this model does too. Bytes are always in
        range, and cost nothing.
        """
        images, _, _ = keras.utils.unpack_x_y_sample_weight(dataset.element_spec)
        if self.rescaling is None or not isinstance(images, dict):
            return
        if all(spec.dtype.as_numpy_dtype == np.uint8 for spec in images.values()):
            return
        self._check_images(images)
        first = next(iter(dataset.take(1).as_numpy_iterator()), None)
        if first is not None:
            self._check_images(keras.utils.unpack_x_y_sample_weight(first)[0])

    def _check_targets(self, targets, kind):
        if targets is None:
            return
        if isinstance(targets, dict):
            _check_keys(targets, self.tasks, f"task in the {kind}", "tasks")
        elif kind == "targets":
            raise ValueError(
                f"{self.name} takes a dict of {kind} keyed by task, "
                f"{list(self.tasks)}. Received: {type(targets).__name__}."
            )
        if kind == "targets":
            for task, x in self.output.items():
                check_targets(task, targets[task], x.shape[1:])


def _lora_arguments(layer):
    """With what the layer's `enable_lora` was called; Keras 3.9 knows no alpha."""
    alpha = getattr(layer, "lora_alpha", None)
    return {"rank": layer.lora_rank} | ({} if alpha is None else {"lora_alpha": alpha})


def _layers(model, prefix=""):
    """The layers of a model and of the models in it, each after what holds it."""
    for layer in model.layers:
        yield prefix + layer.name, layer
        if isinstance(layer, keras.Model):
            yield from _layers(layer, f"{prefix}{layer.name}/")


def check_modalities(modalities):
    """Returns modality -> (height, width, channels), sorted, or raises a ValueError."""
    _check_names(modalities, "modalities", "{'dermoscopy': (128, 128, 3)}")
    checked = {}
    for name in sorted(modalities):
        shape = tuple(modalities[name])
        if (
            len(shape) != 3
            or any(not isinstance(size, int) or size < 1 for size in shape)
            or shape[-1] not in (1, 3)
        ):
            raise ValueError(
                f"Modality {name!r} needs an image shape (height, width, channels) of "
                f"positive integers with 1 or 3 channels. Received: {shape}."
            )
        checked[name] = shape
    return checked


def check_tasks(tasks):
    """Returns task -> number of classes, sorted, or raises a ValueError."""
    _check_names(tasks, "tasks", "{'skin_lesion': 7}")
    for name, classes in tasks.items():
        if not isinstance(classes, int) or classes < 2:
            raise ValueError(
                f"Task {name!r} needs a number of classes, at least 2. Received: "
                f"{classes!r}."
            )
    return {name: tasks[name] for name in sorted(tasks)}


def _check_names(names, kind, example):
    if not isinstance(names, dict) or not names:
        raise ValueError(
            f"`{kind}` must be a dict with at least one entry, such as {example}. "
            f"Received: {names!r}."
        )
    for name in names:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(
                f"Names in `{kind}` begin with a letter or digit and hold letters, "
                "digits, '_' and '-' alone, which every backend and file format can "
                f"carry. Received: {name!r}. Rename it."
            )


def _check_keys(received, expected, kind, plural):
    unknown = sorted(set(received) - set(expected), key=str)
    missing = sorted(set(expected) - set(received))
    if unknown:
        raise ValueError(
            f"Unknown {kind} {unknown[0]!r}. This model has the {plural} "
            f"{list(expected)}. Received: {sorted(received, key=str)}. Rename or leave "
            "out the others."
        )
    if missing:
        remedy = "Add it."
        if plural == "modalities":
            remedy = (
                "Use `drifa_keras.predict`, which fills in absent modalities, or pass "
                "images of zeros."
            )
        raise ValueError(
            f"Missing {kind} {missing[0]!r}. This model has the {plural} "
            f"{list(expected)}. Received: {sorted(received)}. {remedy}"
        )


def check_images(name, images, shape):
    """Raises a `ValueError` unless `images` has shape `(batch, *shape)`."""
    received = getattr(images, "shape", None)
    received = None if received is None else tuple(received)
    if received is None or len(received) != 4:
        raise ValueError(
            f"Images of modality {name!r} must have shape (batch, height, width, "
            f"channels) = (batch, {', '.join(map(str, shape))}). Received: "
            f"{type(images).__name__} of shape {received}. Add a batch axis to a "
            "single image with `image[None]`."
        )
    for size, wanted, axis in zip(
        received[1:], shape, ("height", "width", "channels"), strict=True
    ):
        if size is not None and size != wanted:
            raise ValueError(
                f"Images of modality {name!r} must have {axis} {wanted}. Received: "
                f"shape {received}. Resize the images, or convert their channels, to "
                f"(batch, {', '.join(map(str, shape))})."
            )


def check_pixels(name, images):
    """Raises a `ValueError` for NumPy images that leave 0..255; warns for 0..1."""
    if not isinstance(images, np.ndarray) or images.size == 0:
        return
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 255):  # NaN fails both
        raise ValueError(
            f"Pixels of modality {name!r} must lie in 0..255. Received: values from "
            f"{low} to {high}. Rescale them to 0..255, or build the model with "
            "`rescaling=None` to feed values of your own."
        )
    if 0 < high <= 1:
        warnings.warn(
            f"Pixels of modality {name!r} lie in 0..1, but this model expects 0..255 "
            "and rescales them itself. Multiply by 255, or build the model with "
            "`rescaling=None`.",
            stacklevel=4,
        )


def check_targets(task, targets, answers):
    """Raises a `ValueError` for labels that do not fit a task.

    Args:
        task: Its name.
        targets: One-hot labels of the shape of the answers, or integers without, or
            with one, class.
        answers: Shape of its answers without the batch, `(..., classes)`.
    """
    shape = tuple(getattr(targets, "shape", None) or np.shape(targets))
    *places, classes = answers
    integers = len(shape) <= 1 + len(places) or shape[-1] == 1
    if not integers and shape[-1] not in (None, classes):
        raise ValueError(
            f"One-hot labels of task {task!r} must have {classes} columns. Received: "
            f"shape {shape}."
        )
    if places and tuple(shape[1:3]) not in ((None, None), tuple(places)):
        raise ValueError(
            f"Task {task!r} classifies every pixel: its labels must have the shape "
            f"(batch, {places[0]}, {places[1]}), or (batch, {places[0]}, {places[1]}, "
            f"{classes}) if they are one-hot. Received: shape {shape}."
        )
    if not isinstance(targets, np.ndarray) or targets.size == 0 or not integers:
        return
    low, high = targets.min(), targets.max()
    if low < 0 or high >= classes:
        raise ValueError(
            f"Labels of task {task!r} must lie in 0..{classes - 1}. Received: "
            f"values from {low} to {high}. Give an unknown label sample weight 0 "
            "and any class."
        )


def _portable(config):
    """Names optimizers as `keras.optimizers`, whichever backend compiled the model."""
    if isinstance(config, dict):
        config = {key: _portable(value) for key, value in config.items()}
        if str(config.get("module", "")).startswith("keras.src.backend."):
            config["module"] = "keras.optimizers"
            config["registered_name"] = None
    elif isinstance(config, (list, tuple)):
        config = type(config)(_portable(value) for value in config)
    return config
