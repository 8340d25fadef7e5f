"""HAM10000: dermatoscopic images of pigmented skin lesions (D1)."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np

from drifa_keras.data._checks import listing
from drifa_keras.data.readers import _layout
from drifa_keras.data.source import Source

CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
_METADATA = ("HAM10000_metadata.csv", "HAM10000_metadata", "HAM10000_metadata.tab")
_NAMES = ("HAM10000", "skin-cancer-mnist-ham10000", "dataverse_files")
_REMEDY = (
    "Expected HAM10000/HAM10000_metadata.csv beside HAM10000/HAM10000_images_part_1/"
    " and HAM10000/HAM10000_images_part_2/ (or one folder HAM10000_images/) with "
    "ISIC_*.jpg. Get it from Kaggle (kmader/skin-cancer-mnist-ham10000) or "
    "doi:10.7910/DVN/DBW86T (CC BY-NC 4.0)."
)


def ham10000(
    root: str | os.PathLike,
    *,
    modality: str = "dermoscopy",
    task: str = "skin_lesion",
) -> Source:
    """Read HAM10000 in the layout of its publisher or of its Kaggle copy.

    Tschandl P. et al., Scientific Data 5, 180161 (2018),
    doi:10.1038/sdata.2018.161; CC BY-NC 4.0.

    Args:
        root: the folder that contains `HAM10000/`, or that folder itself.
        modality: name given to the images.
        task: name given to the diagnosis.

    Returns:
        A source with the seven diagnoses as classes and `lesion_id` as groups:
        several images show one lesion.
    """
    folder = _layout.find_root(root, _NAMES, lambda path: _metadata(path) is not None)
    if folder is None:
        raise ValueError(
            f"HAM10000 not found: {_layout.found(root)}, and no "
            f"HAM10000_metadata.csv. {_REMEDY}"
        )
    rows = _rows(_metadata(folder))
    files = _files(folder)
    missing = [row["image_id"] for row in rows if row["image_id"] not in files]
    if missing:
        raise ValueError(
            f"HAM10000 in {folder} lacks {len(missing)} of the {len(rows)} images of "
            f"its metadata ({listing(missing)}). {_REMEDY}"
        )
    paths = [files[row["image_id"]] for row in rows]
    return Source(
        name="ham10000",
        modalities={modality: np.asarray([str(path) for path in paths], object)},
        targets={task: [CLASSES.index(row["dx"]) for row in rows]},
        class_names={task: CLASSES},
        groups=np.asarray([row["lesion_id"] for row in rows]),
        ids=_layout.relative_ids(paths, folder),
    )


def _metadata(folder: Path) -> Path | None:
    return next((folder / n for n in _METADATA if (folder / n).is_file()), None)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        header = file.readline()
        file.seek(0)
        reader = csv.DictReader(file, delimiter="\t" if "\t" in header else ",")
        needed = {"lesion_id", "image_id", "dx"}
        lacking = sorted(needed - set(reader.fieldnames or ()))
        if lacking:
            raise ValueError(
                f"{path} has no column {lacking[0]!r}: expected lesion_id, image_id "
                f"and dx. {_REMEDY}"
            )
        rows = sorted(reader, key=lambda row: row["image_id"])
    for row in rows:
        if row["dx"] not in CLASSES:
            raise ValueError(
                f"{path} gives {row['image_id']} the diagnosis {row['dx']!r}: "
                f"expected one of {', '.join(CLASSES)}."
            )
    return rows


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
