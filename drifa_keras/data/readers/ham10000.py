"""HAM10000: dermatoscopic images of pigmented skin lesions (D1)."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np

from drifa_keras.data._checks import listing
from drifa_keras.data.readers import _layout
from drifa_keras.data.readers._dataset import Dataset
from drifa_keras.data.source import Source

CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
_METADATA = ("HAM10000_metadata.csv", "HAM10000_metadata", "HAM10000_metadata.tab")
_COLUMNS = ("lesion_id", "image_id", "dx")
_NAMES = ("HAM10000", "skin-cancer-mnist-ham10000", "dataverse_files")


def ham10000(
    root: str | os.PathLike,
    *,
    modality: str = "dermoscopy",
    task: str = "skin_lesion",
    verify: bool = True,
) -> Source:
    """Read HAM10000 in the layout of its publisher or of its Kaggle copy.

    Tschandl P. et al., Scientific Data 5, 180161 (2018),
    doi:10.1038/sdata.2018.161; CC BY-NC 4.0.

    Args:
        root: the folder that contains `HAM10000/`, or that folder itself.
        modality: name given to the images.
        task: name given to the diagnosis.
        verify: warn if the images a class differ from the published numbers.

    Returns:
        A source with the seven diagnoses as classes and `lesion_id` as groups:
        several images show one lesion.
    """
    folder = find(root)
    if folder is None:
        raise FACTS.missing(root)
    rows = _rows(_metadata(folder))
    files = _files(folder)
    missing = [row["image_id"] for row in rows if row["image_id"] not in files]
    if missing:
        raise ValueError(
            f"HAM10000 in {folder} lacks {len(missing)} of the {len(rows)} images of "
            f"its metadata ({listing(missing)}). {FACTS.remedy}"
        )
    if verify:
        FACTS.verify((row["dx"] for row in rows), folder)
    paths = [files[row["image_id"]] for row in rows]
    return Source(
        name="ham10000",
        modalities={modality: np.asarray([str(path) for path in paths], object)},
        targets={task: [CLASSES.index(row["dx"]) for row in rows]},
        class_names={task: CLASSES},
        groups=np.asarray([row["lesion_id"] for row in rows]),
        ids=_layout.relative_ids(paths, folder),
    )


def find(root: str | os.PathLike) -> Path | None:
    """The folder with the metadata file, at or below `root`."""
    return _layout.find_root(root, _NAMES, lambda path: _metadata(path) is not None)


def _metadata(folder: Path) -> Path | None:
    return next((folder / n for n in _METADATA if (folder / n).is_file()), None)


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = file.readline()
            file.seek(0)
            reader = csv.DictReader(file, delimiter="\t" if "\t" in header else ",")
            columns = set(reader.fieldnames or ())
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"{path} is no CSV text ({error}); fetch it again. {FACTS.where}"
        ) from error
    lacking = sorted(set(_COLUMNS) - columns)
    if lacking:
        raise ValueError(
            f"{path} has no column {lacking[0]!r}: expected lesion_id, image_id "
            f"and dx. {FACTS.remedy}"
        )
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        if not all(row[column] for column in _COLUMNS):
            raise ValueError(
                f"{path} is incomplete in entry {number} of {len(rows)}: expected "
                f"lesion_id, image_id and dx; fetch it again. {FACTS.where}"
            )
        if row["dx"] not in CLASSES:
            raise ValueError(
                f"{path} gives {row['image_id']} the diagnosis {row['dx']!r}: "
                f"expected one of {', '.join(CLASSES)}."
            )
        if row["image_id"] in seen:
            raise ValueError(
                f"{path} names {row['image_id']!r} twice: expected one entry an image."
            )
        seen.add(row["image_id"])
    if not rows:
        raise ValueError(f"{path} names no images; fetch it again. {FACTS.where}")
    return sorted(rows, key=lambda row: row["image_id"])


def _files(folder: Path) -> dict[str, Path]:
    # Kaggle's archive holds each part twice, in upper and in lower case: the first
    # file of a name wins, in sorted order.
    places = [
        path
        for path in _layout.folders(folder)
        if path.name.lower().startswith("ham10000_images")
    ]
    files: dict[str, Path] = {}
    for place in places:
        for path in _layout.walk_images(place):
            files.setdefault(path.stem, path)
    if not places:
        for path in _layout.walk_images(folder):
            files.setdefault(path.stem, path)
    return files


FACTS = Dataset(
    name="ham10000",
    title="HAM10000",
    modality="dermoscopy",
    task="skin_lesion",
    classes=CLASSES,
    images=10_015,
    licence="CC BY-NC 4.0",
    citation=(
        "Tschandl P., Rosendahl C., Kittler H. The HAM10000 dataset, a large "
        "collection of multi-source dermatoscopic images of common pigmented skin "
        "lesions. Scientific Data 5, 180161 (2018). doi:10.1038/sdata.2018.161"
    ),
    doi="10.7910/DVN/DBW86T",
    kaggle="kmader/skin-cancer-mnist-ham10000",
    group_key="lesion (lesion_id in the metadata)",
    reader=ham10000,
    find=find,
    layout=(
        "HAM10000/HAM10000_metadata.csv beside HAM10000/HAM10000_images_part_1/ and "
        "HAM10000/HAM10000_images_part_2/ (or one folder HAM10000_images/) with "
        "ISIC_*.jpg"
    ),
    page="https://doi.org/10.7910/DVN/DBW86T",
    counts=dict(zip(CLASSES, (327, 514, 1_099, 115, 1_113, 6_705, 142), strict=True)),
)
