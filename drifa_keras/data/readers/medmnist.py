"""MedMNIST: the `.npz` files of the MedMNIST collection."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from drifa_keras.data._checks import safe_name
from drifa_keras.data.source import Source

_PARTS = ("train", "val", "test")
_EXPECTED = (
    "Expected a MedMNIST .npz with train_images, train_labels, val_images, "
    "val_labels, test_images and test_labels (https://medmnist.com)."
)


def medmnist(
    path: str | os.PathLike,
    *,
    modality: str | None = None,
    task: str | None = None,
) -> Source:
    """Read one 2-D, single-label MedMNIST file.

    Args:
        path: the `.npz` file.
        modality: name given to the images; the file's name by default.
        task: name given to the classification; the file's name by default.

    Returns:
        A source with the publisher's split in `official_split`. Patients are not
        published, so each image is its own group.
    """
    path = Path(path).expanduser()
    name = safe_name(path.stem)
    modality, task = modality or name, task or name
    arrays = _arrays(path)
    images = np.concatenate([arrays[f"{part}_images"] for part in _PARTS])
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or images.dtype != np.uint8:
        raise ValueError(
            f"{path} has images of shape {images.shape[1:]} and dtype "
            f"{images.dtype}: expected uint8 (height, width) or (height, width, 3); "
            "the 3-D sets are not supported."
        )
    labels = []
    for part in _PARTS:
        values = arrays[f"{part}_labels"]
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim != 1:
            raise ValueError(
                f"{path} has labels of shape {values.shape}: expected one label an "
                "image; multi-label sets are not supported."
            )
        labels.append(values.astype(np.int64))
    counts = [len(values) for values in labels]
    labels = np.concatenate(labels)
    if not labels.size:
        raise ValueError(f"{path} holds no images. {_EXPECTED}")
    ids = [
        f"{p}/{i:06d}" for p, n in zip(_PARTS, counts, strict=True) for i in range(n)
    ]
    return Source(
        name=name,
        modalities={modality: images},
        targets={task: labels},
        class_names={task: tuple(str(c) for c in range(max(2, labels.max() + 1)))},
        ids=ids,
        official_split=np.repeat(_PARTS, counts),
    )


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise ValueError(f"MedMNIST file {path} not found. {_EXPECTED}")
    keys = [f"{part}_{what}" for part in _PARTS for what in ("images", "labels")]
    try:
        with np.load(path, allow_pickle=False) as file:
            lacking = [key for key in keys if key not in file]
            arrays = {key: file[key] for key in keys if key in file}
    # NumPy and zipfile raise several kinds for one cause: not a whole .npz file.
    except Exception as error:
        raise ValueError(f"{path} cannot be read ({error}). {_EXPECTED}") from error
    if lacking:
        raise ValueError(f"{path} has no {', '.join(lacking)}. {_EXPECTED}")
    return arrays
