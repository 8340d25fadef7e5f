"""Training on several devices of one machine, by what the backends have for it."""

from __future__ import annotations

import contextlib

import keras


@contextlib.contextmanager
def distributed():
    """Spreads the batches of `fit` over all devices, for as long as the context lasts.

    Build, compile and train the model inside it. On JAX this is
    `keras.distribution.DataParallel`, over what `keras.distribution.list_devices`
    finds; on TensorFlow a `MirroredStrategy`, over the GPUs, or over the logical CPUs
    where there are several. Every device has the weights and a share of each batch.
    Batch normalisation sees the whole batch, on TensorFlow after `synchronize`.

    Yields:
        The number of devices.

    Raises:
        ValueError: If there are fewer than two devices, or the backend is PyTorch.
    """
    make = {"jax": _on_jax, "tensorflow": _on_tensorflow}.get(keras.backend.backend())
    if make is None:
        raise ValueError(
            "Training is distributed on JAX and TensorFlow. The backend is "
            f"{keras.backend.backend()}, which uses a single device. A model trained "
            "on one backend loads on any other."
        )
    with make() as count:
        yield count


def synchronize(model) -> None:
    """Makes batch normalisation take the statistics of all devices.

    On TensorFlow a device would else see those of its own share of the batch. On JAX
    the batch is one array, whose statistics they are already.
    """
    if keras.backend.backend() != "tensorflow":
        return
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


def check_batch_size(batch_size: int, devices: int) -> None:
    """Raises a `ValueError` unless each device gets an equal share of a batch."""
    if batch_size % devices:
        raise ValueError(
            f"A batch of {batch_size} cannot be shared equally by {devices} devices. "
            f"Set training.batch_size to a multiple, such as "
            f"{-(-batch_size // devices) * devices}."
        )


@contextlib.contextmanager
def _on_jax():
    devices = keras.distribution.list_devices()
    _require_several(devices)
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
    )
    try:
        yield len(devices)
    finally:
        keras.distribution.set_distribution(before)


@contextlib.contextmanager
def _on_tensorflow():
    import tensorflow as tf

    for kind in ("GPU", "CPU"):
        devices = [device.name for device in tf.config.list_logical_devices(kind)]
        if devices:
            break
    _require_several(devices)
    with tf.distribute.MirroredStrategy(devices).scope():
        yield len(devices)


def _require_several(devices):
    if len(devices) < 2:
        raise ValueError(
            f"Nothing to distribute over: the backend sees one device, {devices}. "
            "Leave the distribution out."
        )
