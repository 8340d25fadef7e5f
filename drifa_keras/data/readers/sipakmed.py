"""SIPaKMeD: single cells from pap-smear slides (D2)."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from drifa_keras.data.readers import _layout
from drifa_keras.data.readers._dataset import Dataset
from drifa_keras.data.source import Source

CLASSES = (
    "Dyskeratotic",
    "Koilocytotic",
    "Metaplastic",
    "Parabasal",
    "Superficial-Intermediate",
)
_NAMES = (
    "SIPaKMeD",
    "cervical-cancer-largest-dataset-sipakmed",
    "SIPaKMeD_original_bmp_sample",
)
_CELL = re.compile(r"(\d+)_(\d+)")


def sipakmed(
    root: str | os.PathLike,
    *,
    modality: str = "pap_smear",
    task: str = "cervical_cell",
    verify: bool = True,
) -> Source:
    """Read the cropped cells of SIPaKMeD.

    Plissiti M.E. et al., IEEE ICIP 2018, 3144-3148,
    doi:10.1109/ICIP.2018.8451588; publicly available for experimental purposes with
    citation.

    Args:
        root: the folder that contains `SIPaKMeD/`, or that folder itself.
        modality: name given to the images.
        task: name given to the cell type.
        verify: warn if the cells a class differ from the published numbers.

    Returns:
        A source with the five cell types as classes and the cluster image that a
        cell was cut from (`"<class>/<NNN>"`) as groups.
    """
    folder = find(root)
    if folder is None:
        raise FACTS.missing(root)
    paths: list[Path] = []
    labels: list[int] = []
    groups: list[str] = []
    for label, name in enumerate(CLASSES):
        cells = _cells(folder, name)
        if not cells:
            raise ValueError(
                f"SIPaKMeD in {folder} has no cells of class {name!r} "
                f"(im_{name}/.../CROPPED). {FACTS.remedy}"
            )
        for slide, path in cells:
            paths.append(path)
            labels.append(label)
            groups.append(f"{name}/{slide}")
    if verify:
        FACTS.verify((CLASSES[label] for label in labels), folder)
    return Source(
        name="sipakmed",
        modalities={modality: np.asarray([str(path) for path in paths], object)},
        targets={task: labels},
        class_names={task: CLASSES},
        groups=np.asarray(groups),
        ids=_layout.relative_ids(paths, folder),
    )


def find(root: str | os.PathLike) -> Path | None:
    """The folder with the class folders, at or below `root`."""
    return _layout.find_root(root, _NAMES, _has_class_folder)


def _has_class_folder(folder: Path) -> bool:
    return any((folder / f"im_{name}").is_dir() for name in CLASSES)


def _cells(folder: Path, name: str) -> list[tuple[str, Path]]:
    for place in (f"im_{name}/im_{name}/CROPPED", f"im_{name}/CROPPED"):
        cropped = folder / place
        if not cropped.is_dir():
            continue
        cells: dict[str, tuple[str, Path]] = {}
        # Sorted order puts .bmp, the original, before a .jpg copy of the same cell.
        for path in sorted(cropped.iterdir()):
            match = _CELL.fullmatch(path.stem)
            if match and _layout.is_image(path.name):
                cells.setdefault(path.stem, (match.group(1), path))
        if cells:
            return list(cells.values())
    return []


FACTS = Dataset(
    name="sipakmed",
    title="SIPaKMeD",
    modality="pap_smear",
    task="cervical_cell",
    classes=CLASSES,
    images=4_049,
    licence="publicly available for experimental purposes, with citation",
    citation=(
        "Plissiti M.E., Dimitrakopoulos P., Sfikas G., Nikou C., Krikoni O., "
        "Charchanti A. SIPAKMED: A new dataset for feature and image based "
        "classification of normal and pathological cervical cells in Pap smear "
        "images. IEEE ICIP 2018, 3144-3148. doi:10.1109/ICIP.2018.8451588"
    ),
    doi="10.1109/ICIP.2018.8451588",
    kaggle="prahladmehandiratta/cervical-cancer-largest-dataset-sipakmed",
    group_key="slide (class and first number of the file name), near-duplicates",
    reader=sipakmed,
    find=find,
    layout=(
        "SIPaKMeD/im_<Class>/im_<Class>/CROPPED/NNN_MM.bmp (or .jpg) for the classes "
        + ", ".join(CLASSES)
    ),
    page="https://www.cs.uoi.gr/~marina/sipakmed.html",
    counts=dict(zip(CLASSES, (813, 825, 793, 787, 831), strict=True)),
)
