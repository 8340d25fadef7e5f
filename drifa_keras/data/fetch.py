"""Fetching published data sets through kagglehub and medmnist.

Both are optional (the extra `fetch`) and imported only here, only when called. What
they return is read and never changed; no archive is opened.
"""

from __future__ import annotations

import os
from pathlib import Path

from drifa_keras.data.readers import DATASETS, Dataset, medmnist

SIZES = (28, 64, 128, 224)


class FetchError(OSError):
    """A data set could not be fetched; the message says how to get it by hand."""


def fetch(
    name: str, *, size: int = 28, folder: str | os.PathLike | None = None
) -> Path:
    """Fetch a published data set and return where it lies.

    Data sets on Kaggle come through kagglehub, into its own cache and with the user's
    own Kaggle credentials; those of MedMNIST through medmnist. Either's copy is used
    again when it is there already. The licence is the user's to keep: see
    `DATASETS[name].licence`.

    Args:
        name: a key of `DATASETS`.
        size: side of the images, 28, 64, 128 or 224; MedMNIST only.
        folder: where to put a MedMNIST file; medmnist's own folder by default.

    Returns:
        The folder, or for MedMNIST the file, to give to the reader.

    Raises:
        ValueError: if `name` or `size` is unknown.
        FetchError: if the package that fetches is not installed, or it fails (no
            network, no credentials, terms not accepted).
    """
    if name not in DATASETS:
        raise ValueError(
            f"Unknown data set {name!r}: expected one of {', '.join(sorted(DATASETS))}."
        )
    dataset = DATASETS[name]
    if dataset.reader is medmnist:
        return _from_medmnist(dataset, size, folder)
    if size != 28 or folder is not None:
        raise ValueError(
            f"size and folder are for MedMNIST; {name!r} comes as it is published, "
            "into the cache of kagglehub (set KAGGLEHUB_CACHE to move it)."
        )
    return _from_kaggle(dataset)


def _from_kaggle(dataset: Dataset) -> Path:
    try:
        import kagglehub
    except ImportError as error:
        raise _failure(
            dataset, "kagglehub is not installed: pip install 'drifa_keras[fetch]'"
        ) from error
    try:
        place = Path(kagglehub.dataset_download(dataset.kaggle))
    # Whatever network, credentials or Kaggle come up with.
    except Exception as error:
        raise _failure(dataset, _text(error)) from error
    found = dataset.find(place)
    if found is None:
        archives = sorted(place.glob("*.zip")) + sorted(place.glob("*.tar*"))
        what = (
            f"{archives[0]} is still packed: unpack it"
            if archives
            else f"{place} does not hold {dataset.layout}"
        )
        raise _failure(dataset, what)
    return found


def _from_medmnist(dataset: Dataset, size: int, folder) -> Path:
    if size not in SIZES:
        raise ValueError(
            f"size={size!r}: expected one of {', '.join(map(str, SIZES))}."
        )
    try:
        import medmnist as package
    except ImportError as error:
        raise _failure(
            dataset, "medmnist is not installed: pip install 'drifa_keras[fetch]'"
        ) from error
    options: dict = {"split": "test", "download": True}
    if size != 28:
        options["size"] = size  # medmnist before 3.0 knows 28 only, and no `size`
    if folder is not None:
        folder = Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        options["root"] = str(folder)
    try:
        fetched = getattr(package, dataset.title)(**options)
        path = Path(
            fetched.root, f"{dataset.name}{'' if size == 28 else f'_{size}'}.npz"
        )
    except Exception as error:
        raise _failure(dataset, _text(error)) from error
    if not path.is_file():
        raise _failure(dataset, f"medmnist left no {path}")
    return path


def _failure(dataset: Dataset, cause: str) -> FetchError:
    return FetchError(
        f"{dataset.title} could not be fetched ({cause}). By hand: {dataset.where}"
    )


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
