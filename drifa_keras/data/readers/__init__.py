"""Readers: one function a data set, from its folder on disk to a `Source`."""

from __future__ import annotations

import os
from collections.abc import Callable

from drifa_keras.data.readers.ham10000 import ham10000
from drifa_keras.data.readers.image_folder import image_folder
from drifa_keras.data.readers.medmnist import medmnist
from drifa_keras.data.readers.sipakmed import sipakmed
from drifa_keras.data.source import Source

READERS: dict[str, Callable[..., Source]] = {
    "ham10000": ham10000,
    "image_folder": image_folder,
    "medmnist": medmnist,
    "sipakmed": sipakmed,
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


__all__ = ["READERS", "ham10000", "image_folder", "medmnist", "read", "sipakmed"]
