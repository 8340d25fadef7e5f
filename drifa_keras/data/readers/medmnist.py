"""MedMNIST: the `.npz` files of the MedMNIST collection."""

from __future__ import annotations

import os
import re
import zipfile
from functools import partial
from pathlib import Path

import numpy as np

from drifa_keras.data._checks import safe_name
from drifa_keras.data.readers._dataset import Dataset, warn
from drifa_keras.data.source import Source

_PARTS = ("train", "val", "test")
_MOST_CLASSES = 256
# Deflate cannot shrink further; a member that claims more is a bomb or broken.
_MOST_COMPRESSION = 1_100
_EXPECTED = (
    "Expected a MedMNIST .npz with train_images, train_labels, val_images, "
    "val_labels, test_images and test_labels (https://medmnist.com)."
)


def medmnist(
    path: str | os.PathLike,
    *,
    modality: str | None = None,
    task: str | None = None,
    verify: bool = True,
) -> Source:
    """Read one 2-D, single-label MedMNIST file.

    Yang J. et al., Scientific Data 10, 41 (2023), doi:10.1038/s41597-022-01721-8;
    CC BY 4.0 (DermaMNIST: CC BY-NC 4.0).

    Args:
        path: the `.npz` file.
        modality: name given to the images; the file's name by default.
        task: name given to the classification; the file's name by default.
        verify: warn if the images a part differ from the published numbers.

    Returns:
        A source with the publisher's split in `official_split`. Patients are not
        published, so each image is its own group.
    """
    path = Path(path).expanduser()
    name = safe_name(path.stem)
    modality, task = modality or name, task or name
    arrays = _arrays(path)
    shapes = {arrays[f"{part}_images"].shape[1:] for part in _PARTS}
    if len(shapes) > 1:
        raise ValueError(
            f"{path} has images of the shapes {sorted(shapes)}. {_EXPECTED}"
        )
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
        if values.dtype.kind not in "iu":
            raise ValueError(
                f"{path} has labels of dtype {values.dtype}: expected whole numbers."
            )
        if values.size and not 0 <= int(values.min()) <= int(values.max()) < (
            _MOST_CLASSES
        ):
            raise ValueError(
                f"{path} has labels from {values.min()} to {values.max()}: expected "
                f"0..{_MOST_CLASSES - 1}."
            )
        if len(values) != len(arrays[f"{part}_images"]):
            raise ValueError(
                f"{path} has {len(arrays[f'{part}_images'])} {part}_images and "
                f"{len(values)} {part}_labels: expected as many of both."
            )
        labels.append(values.astype(np.int64))
    counts = [len(values) for values in labels]
    labels = np.concatenate(labels)
    if not labels.size:
        raise ValueError(f"{path} holds no images. {_EXPECTED}")
    ids = [
        f"{p}/{i:06d}" for p, n in zip(_PARTS, counts, strict=True) for i in range(n)
    ]
    if not min(images.shape[1:]):
        raise ValueError(f"{path} has images of shape {images.shape[1:]}. {_EXPECTED}")
    black = int((~images.any(axis=(1, 2, 3))).sum())
    if black:
        warn(
            f"{path} has {black} image(s) that are black everywhere. An all-zero image "
            "means 'absent' here; leave them out if they show nothing."
        )
    facts = DATASETS.get(re.sub(r"_(64|128|224)$", "", path.stem.lower()))
    if verify and facts is not None:
        facts.verify(np.repeat(_PARTS, counts), path)
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
        _refuse_bomb(path)
        with np.load(path, allow_pickle=False) as file:
            lacking = [key for key in keys if key not in file]
            arrays = {key: file[key] for key in keys if key in file}
    # NumPy and zipfile raise several kinds for one cause: not a whole .npz file.
    except Exception as error:
        text = " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read ({text}). {_EXPECTED}") from error
    if lacking:
        raise ValueError(f"{path} has no {', '.join(lacking)}. {_EXPECTED}")
    return arrays


def _refuse_bomb(path: Path) -> None:
    """Compare what the members claim to hold with the size of the file."""
    most = _MOST_COMPRESSION * path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as file:
                if not member.filename.endswith(".npy"):
                    continue
                version = np.lib.format.read_magic(file)
                read = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }.get(version)
                if read is None:
                    raise ValueError(f"{member.filename} has .npy version {version}")
                shape, _, dtype = read(file)
                size = int(np.prod(shape, dtype=object)) * dtype.itemsize
                if min(shape, default=0) < 0 or size > most:
                    raise ValueError(
                        f"{member.filename} claims the shape {shape} of {dtype}, more "
                        "than the file can hold"
                    )


def _find(flag: str, root: str | os.PathLike) -> Path | None:
    root = Path(root).expanduser()
    names = [f"{flag}{size}.npz" for size in ("", "_64", "_128", "_224")]
    if root.is_file():
        return root if root.name in names else None
    places = [root, root / "MedMNIST", root / "medmnist"]
    return next((p / n for p in places for n in names if (p / n).is_file()), None)


# flag -> title, kind of image, what is told apart, classes, images of the three parts
_SETS = {
    "pathmnist": ("PathMNIST", "histology", "tissue", 9, (89_996, 10_004, 7_180)),
    "dermamnist": ("DermaMNIST", "dermoscopy", "lesion", 7, (7_007, 1_003, 2_005)),
    "octmnist": ("OCTMNIST", "oct", "retina", 4, (97_477, 10_832, 1_000)),
    "pneumoniamnist": ("PneumoniaMNIST", "x-ray", "pneumonia", 2, (4_708, 524, 624)),
    "retinamnist": ("RetinaMNIST", "fundus", "retinopathy", 5, (1_080, 120, 400)),
    "breastmnist": ("BreastMNIST", "ultrasound", "breast", 2, (546, 78, 156)),
    "bloodmnist": ("BloodMNIST", "microscopy", "cell", 8, (11_959, 1_712, 3_421)),
    "tissuemnist": ("TissueMNIST", "microscopy", "cell", 8, (165_466, 23_640, 47_280)),
    "organamnist": ("OrganAMNIST", "ct", "organ", 11, (34_561, 6_491, 17_778)),
    "organcmnist": ("OrganCMNIST", "ct", "organ", 11, (12_975, 2_392, 8_216)),
    "organsmnist": ("OrganSMNIST", "ct", "organ", 11, (13_932, 2_452, 8_827)),
}

DATASETS: dict[str, Dataset] = {
    flag: Dataset(
        name=flag,
        title=title,
        modality=modality,
        task=task,
        classes=tuple(str(label) for label in range(classes)),
        images=sum(counts),
        licence="CC BY-NC 4.0" if flag == "dermamnist" else "CC BY 4.0",
        citation=(
            "Yang J. et al. MedMNIST v2 - A large-scale lightweight benchmark for 2D "
            "and 3D biomedical image classification. Scientific Data 10, 41 (2023). "
            "doi:10.1038/s41597-022-01721-8"
        ),
        doi="10.5281/zenodo.10519652",
        kaggle=None,
        group_key="none published",
        # Thumbnails of 236,386 images would take 4 GB.
        merge_groups_by=("exact",),
        reader=medmnist,
        find=partial(_find, flag),
        layout=f"{flag}.npz, or {flag}_64.npz, {flag}_128.npz or {flag}_224.npz",
        page="https://medmnist.com",
        counts=dict(zip(_PARTS, counts, strict=True)),
        official_split=(
            f"train {counts[0]:,}, val {counts[1]:,}, test {counts[2]:,}"
            + (
                "; made image by image from HAM10000, so lesions straddle its parts"
                if flag == "dermamnist"
                else ""
            )
        ),
        official_split_leaks=flag == "dermamnist",
    )
    for flag, (title, modality, task, classes, counts) in _SETS.items()
}
