"""Readers: one function a data set, from its folder on disk to a `Source`.

`DATASETS` holds what is known of each published data set: licence, citation, classes,
counts, where it comes from, and whether it is present in a folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from drifa_keras.data.readers._dataset import Dataset
from drifa_keras.data.readers.brain_tumor_mri import FACTS as _BRAIN_TUMOR_MRI
from drifa_keras.data.readers.brain_tumor_mri import brain_tumor_mri
from drifa_keras.data.readers.brats2020 import FACTS as _BRATS2020
from drifa_keras.data.readers.brats2020 import (
    BratsSlices,
    brats2020,
    brats2020_slices,
)
from drifa_keras.data.readers.ham10000 import FACTS as _HAM10000
from drifa_keras.data.readers.ham10000 import ham10000
from drifa_keras.data.readers.image_folder import image_folder
from drifa_keras.data.readers.iq_othnccd import FACTS as _IQ_OTHNCCD
from drifa_keras.data.readers.iq_othnccd import iq_othnccd
from drifa_keras.data.readers.medmnist import DATASETS as _MEDMNIST
from drifa_keras.data.readers.medmnist import medmnist
from drifa_keras.data.readers.sipakmed import FACTS as _SIPAKMED
from drifa_keras.data.readers.sipakmed import sipakmed
from drifa_keras.data.readers.tfds_folder import tfds_folder
from drifa_keras.data.source import Source

_PAPER_SETS = (_HAM10000, _SIPAKMED, _BRAIN_TUMOR_MRI, _IQ_OTHNCCD, _BRATS2020)

DATASETS: dict[str, Dataset] = {
    **{dataset.name: dataset for dataset in _PAPER_SETS},
    **_MEDMNIST,
}

READERS: dict[str, Callable[..., Source]] = {
    "brain_tumor_mri": brain_tumor_mri,
    "brats2020": brats2020,
    "ham10000": ham10000,
    "image_folder": image_folder,
    "iq_othnccd": iq_othnccd,
    "medmnist": medmnist,
    "sipakmed": sipakmed,
    "tfds_folder": tfds_folder,
}


def read(name: str, root: str | os.PathLike, **options) -> Source:
    """Read the data set `name` (a key of `READERS`) from `root`.

    Args:
        name: which reader.
        root: the folder (for `medmnist`, the file) to read.
        **options: passed on to the reader.
    """
    if name not in READERS:
        raise ValueError(
            f"Unknown data set {name!r}: expected one of {', '.join(sorted(READERS))}."
        )
    return READERS[name](root, **options)


__all__ = [
    "DATASETS",
    "READERS",
    "BratsSlices",
    "Dataset",
    "brain_tumor_mri",
    "brats2020",
    "brats2020_slices",
    "ham10000",
    "image_folder",
    "iq_othnccd",
    "medmnist",
    "read",
    "sipakmed",
    "tfds_folder",
]
