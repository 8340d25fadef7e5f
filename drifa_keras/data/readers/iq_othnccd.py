"""IQ-OTH/NCCD: lung CT slices (D4)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from drifa_keras.data.readers import _layout
from drifa_keras.data.readers._dataset import Dataset
from drifa_keras.data.source import Source

CLASSES = ("benign", "malignant", "normal")
# "Bengin" is how the publisher spells it; copies exist in which it was corrected.
_FOLDERS = {
    "benign": ("Bengin cases", "Benign cases"),
    "malignant": ("Malignant cases",),
    "normal": ("Normal cases",),
}
_NAMES = (
    "The IQ-OTHNCCD lung cancer dataset",
    "The IQ-OTH_NCCD lung cancer dataset",
    "the-iqothnccd-lung-cancer-dataset",
    "iq_othnccd",
    "IQ-OTHNCCD",
)


def iq_othnccd(
    root: str | os.PathLike,
    *,
    modality: str = "ct",
    task: str = "lung_finding",
    verify: bool = True,
) -> Source:
    """Read the IQ-OTH/NCCD lung cancer dataset.

    Alyasriy H., AL-Huseiny M., Mendeley Data V4 (2023), doi:10.17632/bhmdr45bh2.4;
    CC BY 4.0.

    Args:
        root: the folder that contains `The IQ-OTHNCCD lung cancer dataset/`, or that
            folder itself (the one with `Bengin cases/`, as published).
        modality: name given to the images.
        task: name given to the finding.
        verify: warn if the images a class differ from the published numbers.

    Returns:
        A source with the classes benign, malignant and normal. The 110 cases are not
        identified, so each image is its own group until duplicates are clustered;
        neighbouring slices of a case are nearly identical. Folders without labels
        (`Test cases` in some copies) are not read.
    """
    folder = find(root)
    if folder is None:
        raise FACTS.missing(root)
    paths: list[Path] = []
    labels: list[int] = []
    for label, kind in enumerate(CLASSES):
        place = _layout.folder_named(folder, _FOLDERS[kind])
        images = _layout.walk_images(place) if place else []
        if not images:
            raise ValueError(
                f"{FACTS.title} in {folder} has no images in "
                f"{' or '.join(_FOLDERS[kind])!r}. {FACTS.remedy}"
            )
        paths += images
        labels += [label] * len(images)
    if verify:
        FACTS.verify((CLASSES[label] for label in labels), folder)
    return Source(
        name="iq_othnccd",
        modalities={modality: np.asarray([str(path) for path in paths], object)},
        targets={task: labels},
        class_names={task: CLASSES},
        ids=_layout.relative_ids(paths, folder),
    )


def find(root: str | os.PathLike) -> Path | None:
    """The folder with the class folders, at or below `root`."""
    names = [name for spellings in _FOLDERS.values() for name in spellings]
    return _layout.find_root(
        root, _NAMES, lambda path: _layout.folder_named(path, names) is not None
    )


FACTS = Dataset(
    name="iq_othnccd",
    title="IQ-OTH/NCCD",
    modality="ct",
    task="lung_finding",
    classes=CLASSES,
    images=1_097,
    licence="CC BY 4.0",
    citation=(
        "Alyasriy H., AL-Huseiny M. The IQ-OTH/NCCD lung cancer dataset. Mendeley "
        "Data, V4 (2023). doi:10.17632/bhmdr45bh2.4"
    ),
    doi="10.17632/bhmdr45bh2.4",
    kaggle="hamdallak/the-iqothnccd-lung-cancer-dataset",
    group_key="none published (110 cases); clusters of near-duplicates",
    merge_groups_by=("exact", "cosine"),
    reader=iq_othnccd,
    find=find,
    layout=(
        "'The IQ-OTHNCCD lung cancer dataset/' with the folders 'Bengin cases' (so "
        "published; 'Benign cases' is accepted), 'Malignant cases' and 'Normal cases' "
        "of .jpg files"
    ),
    page="https://doi.org/10.17632/bhmdr45bh2.4",
    counts={"benign": 120, "malignant": 561, "normal": 416},
)
