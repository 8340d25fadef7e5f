"""tf.data pipelines: from a pairing to the batches a model is fitted on.

Everything random follows from `(seed, epoch, step)`, never from the order in which
threads happen to run, so a run that is resumed sees the images it would have seen.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np

from drifa_keras.data._checks import check_count, check_seed, check_size, listing
from drifa_keras.data._exit import CALLS
from drifa_keras.data.augment import Augment
from drifa_keras.data.images import read_image, resize_array, resize_nearest
from drifa_keras.data.pairing import Pairing

if TYPE_CHECKING:
    import tensorflow as tf


def class_weights(labels: np.ndarray, classes: int | Sequence[str]) -> np.ndarray:
    """Balanced class weights: inverse to frequency, with mean 1 over the samples.

    Args:
        labels: (n,) integer labels; -1 (unknown) is left out.
        classes: the number of classes, or their names.

    Returns:
        float32 array, one weight a class; 0 for a class without samples.
    """
    number = classes if isinstance(classes, (int, np.integer)) else len(classes)
    number = check_count(number, "classes")
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ValueError(
            f"class_weights got labels of shape {labels.shape}: expected (n,), one "
            "label an image. Tasks with label maps take no class weights."
        )
    if labels.size and (labels.min() < -1 or labels.max() >= number):
        raise ValueError(
            f"labels run from {labels.min()} to {labels.max()}: expected -1 (unknown) "
            f"or 0..{number - 1} for {number} classes."
        )
    counts = np.bincount(labels[labels >= 0], minlength=number)
    present = np.count_nonzero(counts)
    weights = np.zeros(number, np.float32)
    weights[counts > 0] = counts.sum() / (present * counts[counts > 0])
    return weights


def steps_per_epoch(
    pairing: Pairing,
    batch_size: int,
    pairs_per_epoch: int | None = None,
    drop_remainder: bool = True,
) -> int:
    """How many batches of `batches` make up one epoch."""
    pairs = len(pairing) if pairs_per_epoch is None else pairs_per_epoch
    pairs = check_count(pairs, "pairs_per_epoch")
    batch_size = check_count(batch_size, "batch_size")
    steps = pairs // batch_size if drop_remainder else -(-pairs // batch_size)
    if not steps:
        raise ValueError(
            f"batch_size={batch_size} is more than the {pairs} pairs of an epoch: "
            "expected a smaller batch or more pairs."
        )
    return steps


def batches(
    pairing: Pairing,
    *,
    image_size: tuple[int, int],
    batch_size: int,
    seed: int = 0,
    augment: Augment | None = None,
    epochs: int | None = None,
    first_epoch: int = 0,
    pairs_per_epoch: int | None = None,
    class_weights: dict[str, np.ndarray] | None = None,
    training: bool = True,
    drop_remainder: bool | None = None,
    pad_remainder: bool = False,
) -> tf.data.Dataset:
    """Batches for `fit` and `evaluate`.

    For training, each epoch draws fresh pairs (`pairing.epoch`) and the dataset
    goes on over epochs: `epochs - first_epoch` of them, or without end. Otherwise
    it is one pass (or `epochs` equal ones) over fixed pairs in which the images of
    a source shorter than the longest are repeated and weighted so that each image
    has the same say.

    Args:
        pairing: what to show.
        image_size: (height, width) of the batches.
        batch_size: pairs in a batch.
        seed: run seed.
        augment: what to do to training images.
        epochs: number of the epoch to stop before.
        first_epoch: number of the epoch to start with; a run that is resumed at
            epoch 2 gets what the third epoch of the whole run would have been.
        pairs_per_epoch: the length of the longest source by default; training only.
        class_weights: task name to one weight a class, put into the weights.
        training: whether this is for training.
        drop_remainder: whether an epoch has only full batches; `training` by
            default.
        pad_remainder: whether the last batch is padded to the size of the others with
            rows of weight 0, and the rows that count weigh so much more that weighted
            losses and metrics stay what they are; not for training. Several devices
            can share equal batches alone, and on TensorFlow Keras averages the losses
            of single tasks over batches, whatever their sizes.

    Returns:
        A dataset of `(images, targets, weights)`: modality name to uint8
        (B, H, W, C), task name to one-hot float32 (B, K), or (B, H, W, K) where it has
        label maps, and task name to float32 (B,). An unknown label is a row of zeros
        with weight 0, an unknown pixel of a map a row of zeros, and a map without a
        known pixel has weight 0; an absent image is all zeros.
    """
    tf = _tensorflow()
    size = check_size(image_size)
    seed, first_epoch = check_seed(seed), check_seed(first_epoch, "first_epoch")
    drop_remainder = training if drop_remainder is None else drop_remainder
    if pad_remainder and (training or drop_remainder):
        raise ValueError(
            "pad_remainder was given with "
            f"{'training' if training else 'drop_remainder'}=True: expected it only "
            "where every image is shown; leave one of them out."
        )
    if not training and (augment is not None and augment.active):
        raise ValueError(
            "augment was given with training=False: augmentation is for training "
            "images alone; leave it out."
        )
    if not training and pairs_per_epoch is not None:
        raise ValueError(
            "pairs_per_epoch was given with training=False, where every image is "
            "shown; leave it out."
        )
    _check_maps(pairing, augment, class_weights)
    if epochs is None and not training:
        epochs = first_epoch + 1
    if epochs is not None and check_count(epochs, "epochs") <= first_epoch:
        raise ValueError(
            f"epochs={epochs} with first_epoch={first_epoch} leaves nothing to do: "
            "expected epochs above first_epoch."
        )
    steps = steps_per_epoch(pairing, batch_size, pairs_per_epoch, drop_remainder)
    table = _weight_table(pairing, class_weights)

    def schedule() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        epoch = first_epoch
        while epochs is None or epoch < epochs:
            if training:
                indices = pairing.epoch(seed, epoch, pairs_per_epoch)
                shares = np.ones(indices.shape, np.float32)
            else:
                indices, shares = _equal_say(pairing, seed)
                if pad_remainder:
                    indices, shares = _padded(indices, shares, steps * batch_size)
            for step in range(steps):
                rows = slice(step * batch_size, (step + 1) * batch_size)
                if CALLS.ending:
                    return
                words = np.random.SeedSequence([seed, epoch, step]).generate_state(2)
                yield indices[rows], shares[rows], words.view(np.int32)
            epoch += 1

    sources = len(pairing.sources)
    dataset = tf.data.Dataset.from_generator(
        schedule,
        output_signature=(
            tf.TensorSpec((None, sources), tf.int64),
            tf.TensorSpec((None, sources), tf.float32),
            tf.TensorSpec((2,), tf.int32),
        ),
    )
    total = (
        tf.data.INFINITE_CARDINALITY
        if epochs is None
        else (epochs - first_epoch) * steps
    )
    rows = batch_size if drop_remainder or pad_remainder else None
    gather = _gatherer(pairing, size, rows)
    labels = {
        task: _map_gatherer(source.targets[task], size, rows)
        if task in source.maps
        else partial(tf.gather, tf.constant(source.targets[task]))
        for source in pairing.sources
        for task in source.targets
    }
    tasks = pairing.tasks

    def assemble(indices, shares, words):
        indices = tf.ensure_shape(indices, (rows, sources))
        targets, weights = {}, {}
        for task, classes in tasks.items():
            column = pairing.source_of_task(task)
            label = labels[task](indices[:, column])
            targets[task] = tf.one_hot(label, classes, dtype=tf.float32)
            if label.shape.rank == 3:
                known = tf.reduce_any(label >= 0, axis=[1, 2])
                weight = tf.cast(known, tf.float32)
            else:
                # Row -1 of the table is the weight of an unknown label.
                place = tf.where(label < 0, tf.cast(classes, label.dtype), label)
                weight = tf.gather(table[task], place)
            weights[task] = weight * shares[:, column]
        return gather(indices), targets, weights, words

    # Decoding threads are shared by all batches; more batches at once than cores
    # would only hold more memory.
    dataset = dataset.map(assemble, num_parallel_calls=_cores(), deterministic=True)
    if augment is not None and augment.active:
        dataset = dataset.map(
            _augmenting(pairing, augment),
            num_parallel_calls=_cores(),
            deterministic=True,
        )
    else:
        dataset = dataset.map(
            lambda images, targets, weights, _: (images, targets, weights)
        )
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(total))
    return dataset.prefetch(tf.data.AUTOTUNE)


def once(
    pairing: Pairing,
    *,
    image_size: tuple[int, int],
    batch_size: int,
    seed: int = 0,
    draw: int = 0,
) -> tuple[tf.data.Dataset, np.ndarray, np.ndarray]:
    """Images for an evaluation in which every image counts exactly once.

    Args:
        pairing: what to show.
        image_size: (height, width) of the batches.
        batch_size: pairs in a batch; the last one may be smaller.
        seed: run seed.
        draw: which draw of partners.

    Returns:
        dataset: dicts of modality name to uint8 (B, H, W, C), in the order of
            `indices`.
        indices: int64 (N, sources), which case of each source a row shows.
        counted: bool (N, sources), False where a case is there only as a partner.
    """
    tf = _tensorflow()
    size, batch_size = check_size(image_size), check_count(batch_size, "batch_size")
    indices, counted = pairing.once(seed, draw)
    dataset = tf.data.Dataset.from_tensor_slices(indices).batch(batch_size)
    dataset = dataset.map(
        _gatherer(pairing, size, None), num_parallel_calls=_cores(), deterministic=True
    )
    return dataset.prefetch(tf.data.AUTOTUNE), indices, counted


def _tensorflow():
    try:
        import tensorflow
    except ImportError as error:
        raise ImportError(
            "The data pipelines need TensorFlow (tf.data), whichever backend trains: "
            'pip install "drifa_keras[tensorflow]"'
        ) from error
    return tensorflow


def _cores() -> int:
    return max(2, os.cpu_count() or 1)


@cache
def _readers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(16, 2 * _cores()), thread_name_prefix="drifa-read")


def _gatherer(pairing: Pairing, size: tuple[int, int], rows: int | None) -> Callable:
    """A function from indices (B, sources) to a dict of images."""
    import tensorflow as tf

    names = list(pairing.modalities)
    columns = [pairing.source_of_modality(name) for name in names]
    stores = [
        pairing.sources[column].modalities[name]
        for column, name in zip(columns, names, strict=True)
    ]
    channels = [pairing.modalities[name] for name in names]

    @CALLS.counted
    def fetch(indices: np.ndarray) -> list[np.ndarray]:
        return [
            _images(store, indices[:, column], size, count)
            for store, column, count in zip(stores, columns, channels, strict=True)
        ]

    def gather(indices):
        images = tf.numpy_function(fetch, [indices], [tf.uint8] * len(names))
        images = tf.nest.flatten(images)
        return {
            name: tf.ensure_shape(image, (rows, *size, count))
            for name, image, count in zip(names, images, channels, strict=True)
        }

    return gather


def _map_gatherer(
    maps: np.ndarray, size: tuple[int, int], rows: int | None
) -> Callable:
    """A function from indices (B,) to label maps (B, H, W)."""
    import tensorflow as tf

    @CALLS.counted
    def fetch(indices: np.ndarray) -> np.ndarray:
        return resize_nearest(maps[indices], size).astype(np.int32)

    def gather(indices):
        # A constant of all maps would be copied into the graph, which ends at 2 GiB.
        labels = tf.numpy_function(fetch, [indices], tf.int32)
        return tf.ensure_shape(labels, (rows, *size))

    return gather


def _images(
    store, rows: np.ndarray, size: tuple[int, int], channels: int
) -> np.ndarray:
    if store.dtype != object and store.shape[1:3] == size:
        return store[rows]
    out = np.zeros((len(rows), *size, channels), np.uint8)

    def fill(position: int) -> None:
        image = store[rows[position]]
        if isinstance(image, str):
            out[position] = read_image(image, size, channels)
        elif image is not None:
            out[position] = resize_array(image, size)

    for _ in _readers().map(fill, range(len(rows))):
        pass
    return out


def _check_maps(pairing: Pairing, augment: Augment | None, class_weights) -> None:
    """Refuse what would not do the same to label maps as to images."""
    if not pairing.maps:
        return
    for name in ("rand_augment", "mixup", "cutmix"):
        if getattr(augment, name, False):
            raise ValueError(
                f"augment has {name}, but the task(s) {listing(pairing.maps)} have "
                "label maps, which it does not change with the images: expected only "
                "flip, rotation and translation."
            )
    weighted = sorted(set(class_weights or {}) & set(pairing.maps))
    if weighted:
        raise ValueError(
            f"class_weights names the task {weighted[0]!r}, which has label maps: "
            "expected only tasks with one label an image; leave it out."
        )


def _weight_table(pairing: Pairing, given: dict[str, np.ndarray] | None):
    """Task to one weight a class, with a last 0 for unknown labels."""
    given = given or {}
    unknown = sorted(set(given) - set(pairing.tasks))
    if unknown:
        raise ValueError(
            f"class_weights names the task {unknown[0]!r}: expected some of "
            f"{sorted(pairing.tasks)}."
        )
    table = {}
    for task, classes in pairing.tasks.items():
        weights = np.asarray(given.get(task, np.ones(classes)), np.float32)
        usable = weights.shape == (classes,) and np.isfinite(weights).all()
        if not usable or (weights < 0).any():
            raise ValueError(
                f"class_weights[{task!r}] = {weights.tolist()} is not usable: "
                f"expected {classes} finite weights of 0 or more, one a class."
            )
        table[task] = np.append(weights, np.float32(0))
    return table


def _padded(
    indices: np.ndarray, shares: np.ndarray, rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """As many rows: those that are added weigh 0, the others as much more.

    Keras divides a sum of weighted losses by the number of rows, whatever they weigh.
    """
    more = np.arange(rows) % len(indices)
    shares = shares[more] * np.float32(rows / len(shares))
    shares[len(indices) :] = 0
    return indices[more], shares


def _equal_say(pairing: Pairing, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Fixed pairs, and shares by which each image of a source weighs the same."""
    indices, _ = pairing.once(seed)
    shares = np.ones(indices.shape, np.float32)
    for column, source in enumerate(pairing.sources):
        shown = np.bincount(indices[:, column], minlength=len(source))
        even = len(indices) / len(source)
        shares[:, column] = even / shown[indices[:, column]]
    return indices, shares


def _augmenting(pairing: Pairing, augment: Augment) -> Callable:
    """Augment the images of each source by themselves, with its labels."""
    import tensorflow as tf

    augmenters = [augment.build() for _ in pairing.sources]

    def apply(images, targets, weights, words):
        out: tuple[dict, dict, dict] = ({}, {}, {})
        for number, (source, augmenter) in enumerate(
            zip(pairing.sources, augmenters, strict=True)
        ):
            changed = augmenter(
                {name: images[name] for name in source.modalities},
                {task: targets[task] for task in source.targets},
                {task: weights[task] for task in source.targets},
                tf.random.fold_in(words, number),
            )
            for whole, part in zip(out, changed, strict=True):
                whole.update(part)
        return out

    return apply
