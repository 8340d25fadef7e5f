"""Brain Tumor MRI Dataset (Nickparvar): slices of brain MRI (D3)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from drifa_keras.data.readers import _layout
from drifa_keras.data.readers._dataset import Dataset
from drifa_keras.data.source import Source

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
# Folder of the publisher -> part of `Source.official_split`, and its images a class.
_PARTS = {
    "Training": ("train", (1_321, 1_339, 1_595, 1_457)),
    "Testing": ("test", (300, 306, 405, 300)),
}
_NAMES = (
    "brain-tumor-mri-dataset",
    "brain_tumor_mri",
    "Brain-Tumor-MRI-Dataset",
    "Brain Tumor MRI Dataset",
)


def brain_tumor_mri(
    root: str | os.PathLike,
    *,
    modality: str = "mri",
    task: str = "brain_tumor",
    verify: bool = True,
) -> Source:
    """Read the Brain Tumor MRI Dataset of M. Nickparvar.

    Nickparvar M., Kaggle (2021), doi:10.34740/KAGGLE/DSV/2645886; CC0 1.0.

    The publisher's folders are kept in `official_split` (Training is "train", Testing
    is "test", and there is no "val"), **and they leak**: 216 of the 1,311 Testing
    images are pixel-identical to a Training image. Split by near-duplicate clusters
    instead; figures on the official split are comparable only with other inflated
    ones.

    Args:
        root: the folder that contains `brain-tumor-mri-dataset/`, or that folder
            itself (the one with `Training/` and `Testing/`).
        modality: name given to the images.
        task: name given to the diagnosis.
        verify: warn if the images a class differ from the published numbers.

    Returns:
        A source with four classes. Patients are not published, so each image is its
        own group until duplicates are clustered.
    """
    folder = find(root)
    if folder is None:
        raise FACTS.missing(root)
    paths: list[Path] = []
    labels: list[int] = []
    parts: list[str] = []
    counted: list[str] = []
    for name, (part, _) in _PARTS.items():
        place = _layout.folder_named(folder, [name])
        for label, kind in enumerate(CLASSES):
            below = _layout.folder_named(place, [kind]) if place else None
            images = _layout.walk_images(below) if below else []
            if not images:
                raise ValueError(
                    f"{FACTS.title} in {folder} has no images in {name}/{kind}. "
                    f"{FACTS.remedy}"
                )
            paths += images
            labels += [label] * len(images)
            parts += [part] * len(images)
            counted += [f"{name}/{kind}"] * len(images)
    if verify:
        FACTS.verify(counted, folder)
    return Source(
        name="brain_tumor_mri",
        modalities={modality: np.asarray([str(path) for path in paths], object)},
        targets={task: labels},
        class_names={task: CLASSES},
        ids=_layout.relative_ids(paths, folder),
        official_split=np.asarray(parts),
    )


def find(root: str | os.PathLike) -> Path | None:
    """The folder with Training and Testing, at or below `root`."""
    return _layout.find_root(root, _NAMES, _recognise)


def _recognise(folder: Path) -> bool:
    places = [_layout.folder_named(folder, [name]) for name in _PARTS]
    return any(
        place is not None and _layout.folder_named(place, CLASSES) is not None
        for place in places
    )


FACTS = Dataset(
    name="brain_tumor_mri",
    title="Brain Tumor MRI Dataset",
    modality="mri",
    task="brain_tumor",
    classes=CLASSES,
    images=7_023,
    licence="CC0 1.0 (its sources figshare, SARTAJ and Br35H have their own)",
    citation=(
        "Nickparvar M. Brain Tumor MRI Dataset. Kaggle (2021). "
        "doi:10.34740/KAGGLE/DSV/2645886"
    ),
    doi="10.34740/KAGGLE/DSV/2645886",
    kaggle="masoudnickparvar/brain-tumor-mri-dataset",
    group_key="none published; clusters of near-duplicates",
    merge_groups_by=("exact", "cosine"),
    reader=brain_tumor_mri,
    find=find,
    layout=(
        "brain-tumor-mri-dataset/Training/<class>/*.jpg and "
        "brain-tumor-mri-dataset/Testing/<class>/*.jpg for the classes "
        + ", ".join(CLASSES)
    ),
    page="https://www.kaggle.com/datasets/masoudnickparvar/brain-tumor-mri-dataset",
    counts={
        f"{name}/{kind}": count
        for name, (_, counts) in _PARTS.items()
        for kind, count in zip(CLASSES, counts, strict=True)
    },
    official_split=(
        "Training 5,712 and Testing 1,311 images; 216 Testing images (16.5 %) are "
        "pixel-identical to a Training image"
    ),
    official_split_leaks=True,
)
