"""What the readers share: finding a data set's folder and listing its files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from drifa_keras.data._checks import listing
from drifa_keras.data.images import SUFFIXES


def is_image(name: str) -> bool:
    """Whether a file name looks like an image and not like a hidden file."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def folders(root: Path) -> list[Path]:
    """Visible folders of `root`, sorted."""
    return sorted(
        path
        for path in root.iterdir()
        if path.is_dir() and not path.name.startswith((".", "__"))
    )


def walk_images(root: Path) -> list[Path]:
    """Image files at any depth below `root`, sorted by their path."""
    paths = []
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if not name.startswith((".", "__"))]
        paths += [Path(folder, name) for name in files if is_image(name)]
    return sorted(paths, key=Path.as_posix)


def find_root(
    root: str | os.PathLike,
    names: Sequence[str],
    recognise: Callable[[Path], bool],
) -> Path | None:
    """The folder of a data set: `root`, or below it one or two folders in `names`.

    `names` are compared without regard to case, and earlier ones win. Two levels,
    because archives often hold a folder of their own name.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        return None
    order = {name.lower(): rank for rank, name in enumerate(names)}

    def named(place: Path) -> list[Path]:
        below = [path for path in folders(place) if path.name.lower() in order]
        return sorted(below, key=lambda path: order[path.name.lower()])

    children = named(root)
    grandchildren = [path for child in children for path in named(child)]
    for folder in [root, *children, *grandchildren]:
        if recognise(folder):
            return folder
    return None


def folder_named(root: Path, names: Sequence[str]) -> Path | None:
    """The folder in `root` with one of `names`, whatever its case."""
    wanted = {name.lower() for name in names}
    return next((path for path in folders(root) if path.name.lower() in wanted), None)


def found(root: str | os.PathLike) -> str:
    """What is at `root`, for an error message."""
    root = Path(root).expanduser()
    if not root.exists():
        return f"{root} does not exist"
    if not root.is_dir():
        return f"{root} is a file"
    entries = sorted(path.name for path in root.iterdir())
    return f"{root} holds {listing(entries, 5) if entries else 'nothing'}"


def relative_ids(paths: Sequence[Path], root: Path) -> list[str]:
    """Paths below `root` with forward slashes on every system."""
    return [path.relative_to(root).as_posix() for path in paths]
