"""A data set that TensorFlow Datasets (TFDS) has prepared on disk."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from drifa_keras.data._checks import check_size, listing, track
from drifa_keras.data.images import resize_array, resize_nearest
from drifa_keras.data.readers import _layout
from drifa_keras.data.source import Source

_PARTS = {"train": "train", "validation": "val", "test": "test"}
_GIB = 2**30


def tfds_folder(
    root: str | os.PathLike,
    *,
    modality: str | None = None,
    task: str | None = None,
    image_size: tuple[int, int] | None = None,
    limit_gib: float = 4.0,
    progress: bool = True,
) -> Source:
    """Read an image classification data set in the format of TFDS.

    Each image feature is a modality and each class label a task. Further features are
    used where they have the names that the builders in `datasets/` give them: `id`,
    `group`, `official_split`, `mask` (ground truth of every modality where it is not 0)
    and `index` (the row). Needs TensorFlow and tensorflow-datasets, the extra `tfds`,
    but not the code of the builder.

    Args:
        root: the folder of the prepared data set (`data_dir` of its
            `tfds.core.DatasetBuilder`), or one above it.
        modality: name given to the images, where there is one modality; by default the
            one in `DATASETS`, else the name of the feature.
        task: name given to the labels, where there is one task; by default likewise.
        image_size: (height, width) to resize to; needed if the images differ in size.
        limit_gib: refuse to make arrays larger than this.
        progress: whether to show a progress bar when it takes a while.

    Returns:
        A source with arrays, in the order of `index`, else of the splits. Without
        `group` each image is its own group. `official_split` is the feature of that
        name, else the splits of TFDS if all are called train, validation or test.

    Raises:
        ValueError: if there is no such data set, or several; if it has no images or no
            class labels, images that are not uint8 with 1 or 3 channels, or images of
            several sizes and no `image_size`; if it takes more than `limit_gib`.
        ImportError: if TensorFlow or tensorflow-datasets is not installed.
    """
    size = None if image_size is None else check_size(image_size)
    tfds = _tfds()
    builder = tfds.builder_from_directory(_prepared(root))
    features, splits = builder.info.features, builder.info.splits
    images = [name for name in _of_kind(builder, tfds.features.Image) if name != "mask"]
    labels = _of_kind(builder, tfds.features.ClassLabel)
    parts = np.repeat(list(splits), [part.num_examples for part in splits.values()])
    shapes = _shapes(builder, images, size)
    if "mask" in features:
        shapes["mask"] = shapes[images[0]][:2]
    _check_memory(builder, len(parts), shapes, limit_gib)

    arrays = {
        name: np.zeros((len(parts), *shape), bool if name == "mask" else np.uint8)
        for name, shape in shapes.items()
    }
    texts = [
        name
        for name in ("id", "group", "official_split")
        if isinstance(dict(features).get(name), tfds.features.Text)
    ]
    index = ["index"] if "index" in features else []
    columns: dict[str, list] = {name: [] for name in (*labels, *texts, *index)}
    examples = (
        example
        for name in splits
        for example in tfds.as_numpy(builder.as_dataset(split=name))
    )
    what = f"Reading {builder.name}"
    for row, example in enumerate(track(examples, len(parts), what, progress)):
        for name, array in arrays.items():
            array[row] = _fitted(builder, name, example[name], shapes[name], size)
        for name, column in columns.items():
            column.append(example[name])

    for name in texts:
        columns[name] = [value.decode() for value in columns[name]]
    mask = arrays.pop("mask", None)
    modalities = dict(
        zip(_names(builder, images, modality, "modality"), arrays.values(), strict=True)
    )
    tasks = dict(zip(_names(builder, labels, task, "task"), labels, strict=True))
    official = columns.get("official_split", [_PARTS.get(part) for part in parts])
    return Source(
        name=builder.name,
        modalities=modalities,
        targets={task: columns[label] for task, label in tasks.items()},
        class_names={task: features[label].names for task, label in tasks.items()},
        groups=columns.get("group"),
        ids=columns.get("id"),
        masks={} if mask is None else dict.fromkeys(modalities, mask),
        official_split=None if None in official else official,
    ).take(np.argsort(columns.get("index", np.arange(len(parts)))))


def _tfds():
    try:
        import tensorflow  # noqa: F401
        import tensorflow_datasets
    except ImportError as error:
        raise ImportError(
            "Reading TFDS data sets needs TensorFlow and tensorflow-datasets: "
            "pip install 'drifa_keras[tfds]'."
        ) from error
    return tensorflow_datasets


def _prepared(root: str | os.PathLike) -> Path:
    """The folder with dataset_info.json: `root`, or one or two folders below it."""
    folder = Path(root).expanduser()
    found = [
        path.parent
        for depth in ("", "*/", "*/*/")
        for path in sorted(folder.glob(f"{depth}dataset_info.json"))
    ]
    if len(found) == 1:
        return found[0]
    what = (
        f"{folder} holds several prepared data sets: {listing(found)}"
        if found
        else f"Prepared TFDS data set not found: {_layout.found(folder)}"
    )
    raise ValueError(
        f"{what}. Expected the folder of one, with dataset_info.json, such as "
        "~/tensorflow_datasets/ham10000/1.0.0; `tfds build` makes it."
    )


def _of_kind(builder, kind: type) -> list[str]:
    """Names of the features of one kind; at least one."""
    features = builder.info.features
    names = [name for name, feature in features.items() if isinstance(feature, kind)]
    if not names:
        raise ValueError(
            f"The TFDS data set {builder.name!r} has no {kind.__name__} among its "
            f"features {sorted(features)}: expected images and class labels."
        )
    return names


def _shapes(builder, images, size) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays of one example, by its first one where no size is given."""
    shapes = {}
    for name in images:
        feature = builder.info.features[name]
        if feature.shape[-1] not in (1, 3) or feature.np_dtype != np.uint8:
            raise ValueError(
                f"The feature {name!r} of the TFDS data set {builder.name!r} has the "
                f"shape {feature.shape} and dtype {feature.np_dtype}: expected uint8 "
                "images with 1 or 3 channels."
            )
        shapes[name] = feature.shape
    if size is None:
        first = next(iter(builder.as_dataset(split=next(iter(builder.info.splits)))))
        return {name: tuple(first[name].shape) for name in images}
    return {name: (*size, shape[-1]) for name, shape in shapes.items()}


def _check_memory(builder, number: int, shapes, limit_gib: float) -> None:
    total = number * sum(int(np.prod(shape)) for shape in shapes.values())
    if total > limit_gib * _GIB:
        raise ValueError(
            f"The images of {builder.name!r} take {total / _GIB:.1f} GiB, more than "
            f"limit_gib={limit_gib:g}: pass image_size=(128, 128) or a higher "
            "limit_gib."
        )


def _fitted(builder, name: str, pixels: np.ndarray, shape, size) -> np.ndarray:
    if size is None and pixels.shape[:2] != shape[:2]:
        raise ValueError(
            f"The images of {builder.name!r} differ in size ({shape[:2]} and "
            f"{pixels.shape[:2]}, height and width): pass image_size=(height, width)."
        )
    if name == "mask":
        return resize_nearest(pixels.any(axis=-1)[None], shape)[0]
    return resize_array(pixels, shape[:2])


def _names(builder, features: list[str], given: str | None, kind: str) -> list[str]:
    """Names of the modalities or tasks that the features become."""
    # Here, because the registry imports the readers.
    from drifa_keras.data.readers import DATASETS

    if len(features) == 1:
        facts = DATASETS.get(builder.name)
        # The facts of BraTS list four modalities, which are never alone.
        return [given or (getattr(facts, kind) if facts else features[0])]
    if given is not None:
        raise ValueError(
            f"{kind}={given!r} was given for {builder.name!r}, which has several: "
            f"{', '.join(features)}; leave it out."
        )
    return features
