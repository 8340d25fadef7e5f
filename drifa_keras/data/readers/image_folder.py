"""A folder of the user's own, with one folder of images a class."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from drifa_keras.data._checks import safe_name
from drifa_keras.data.readers import _layout
from drifa_keras.data.source import Source


def image_folder(
    root: str | os.PathLike,
    *,
    modality: str = "image",
    task: str = "label",
    groups: str | None = None,
) -> Source:
    r"""Read `<root>/<class>/*`, at any depth below a class.

    Files that are no images by their suffix, and hidden folders, are ignored.

    Args:
        root: folder with one folder a class; at least two.
        modality: name given to the images.
        task: name given to the classification.
        groups: a regular expression, searched in the path relative to `root` (with
            forward slashes), whose first capture group names what must not
            straddle a split, e.g. `r"/(patient\d+)_"`. Each image is its own group
            when left out.
    """
    folder = Path(root).expanduser()
    expected = "Expected <folder>/<class>/<image files>, two classes or more."
    if not folder.is_dir():
        raise ValueError(f"Image folder not found: {_layout.found(folder)}. {expected}")
    classes = _layout.folders(folder)
    if len(classes) < 2:
        raise ValueError(
            f"The image folder {folder} has {len(classes)} class folder(s): "
            f"{_layout.found(folder)}. {expected}"
        )
    paths: list[Path] = []
    labels: list[int] = []
    for label, place in enumerate(classes):
        images = _layout.walk_images(place)
        if not images:
            raise ValueError(
                f"The class folder {place} holds no image: add images "
                "(.jpg, .png, .bmp, .tif, ...) or remove the folder."
            )
        paths += images
        labels += [label] * len(images)
    ids = _layout.relative_ids(paths, folder)
    return Source(
        name=safe_name(folder.resolve().name),
        modalities={modality: np.asarray([str(path) for path in paths], object)},
        targets={task: labels},
        class_names={task: tuple(place.name for place in classes)},
        groups=None if groups is None else _groups(groups, ids),
        ids=ids,
    )


def _groups(pattern: str, ids: list[str]) -> np.ndarray:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"groups={pattern!r} is no regular expression ({error})."
        ) from error
    if expression.groups < 1:
        raise ValueError(
            f"groups={pattern!r} has no capture group: put parentheses around the "
            "part that names the group."
        )
    values = []
    for name in ids:
        match = expression.search(name)
        if match is None or match.group(1) is None:
            raise ValueError(
                f"groups={pattern!r} does not match {name!r}: expected a match in "
                "every path relative to the image folder."
            )
        values.append(match.group(1))
    return np.asarray(values)
