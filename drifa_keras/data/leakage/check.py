"""The check that a training run makes before it starts."""

from __future__ import annotations

import numpy as np

from drifa_keras.data.leakage.fingerprints import (
    Fingerprints,
    check_rows,
    fingerprint,
)
from drifa_keras.data.leakage.splits import part_codes, straddling
from drifa_keras.data.source import Source
from drifa_keras.data.splits import PARTS, Split


def assert_no_leakage(
    source: Source,
    split: Split,
    fingerprints: Fingerprints | None = None,
    progress: bool = True,
) -> None:
    """Refuse a split in which a group or an exact copy straddles the parts.

    Near duplicates are not looked for here: put them into the groups with
    `merge_groups`, and they are checked as groups.

    Args:
        source: what was split.
        split: its parts.
        fingerprints: `fingerprint(source)`, to save reading the images again. Left
            out, the pixels of every modality are hashed: quick for a source in
            memory (`source.load`), one decoding of every file otherwise.
        progress: whether to show a progress bar when it takes a while.

    Raises:
        ValueError: if something straddles; it says how much, and names a pair.
    """
    parts = part_codes(split, len(source))
    problems = []
    groups, codes = np.unique(source.groups, return_inverse=True)
    codes = codes.reshape(-1)
    torn = straddling(codes, parts)
    if torn.size:
        problems.append(
            f"{len(torn)} group(s) straddle the parts, e.g. "
            f"{str(groups[torn[0]])!r} with {_pair(source, codes == torn[0], parts)}"
        )
    for name, pixels in _pixels(source, fingerprints, progress):
        torn = straddling(pixels, parts)
        if torn.size:
            where = f" of modality {name!r}" if len(source.modalities) > 1 else ""
            problems.append(
                f"{len(torn)} set(s) of identical images{where} straddle the parts, "
                f"e.g. {_pair(source, pixels == torn[0], parts)}"
            )
    if problems:
        raise ValueError(
            f"The split of source {source.name!r} leaks: {'; '.join(problems)}. "
            "Expected none; split again with split(merge_groups(source))."
        )


def _pixels(source: Source, fingerprints, progress):
    if fingerprints is not None:
        check_rows(fingerprints, source)
        yield next(iter(source.modalities)), fingerprints.pixel_codes
        return
    for name in source.modalities:
        prints = fingerprint(source, progress, modality=name, thumbnails=False)
        yield name, prints.pixel_codes


def _pair(source: Source, members: np.ndarray, parts: np.ndarray) -> str:
    rows = [np.flatnonzero(members & (parts == part)) for part in range(3)]
    shown = [
        f"{str(source.ids[mine[0]])!r} in {part}"
        for part, mine in zip(PARTS, rows, strict=True)
        if mine.size
    ]
    return " and ".join(shown[:2])
