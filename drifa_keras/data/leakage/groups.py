"""Groups that keep near duplicates together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from drifa_keras.data.leakage.fingerprints import (
    Fingerprints,
    check_rows,
    fingerprint,
)
from drifa_keras.data.leakage.near import NearPairs, near_pairs
from drifa_keras.data.leakage.pairs import chain, components
from drifa_keras.data.readers import DATASETS
from drifa_keras.data.source import Source

MEASURES = ("exact", "confirmed", "dhash", "cosine")
DEFAULT = ("exact", "confirmed")


def near_groups(
    fingerprints: Fingerprints,
    by: Sequence[str] = DEFAULT,
    near: NearPairs | None = None,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Connected components of images that are copies of each other.

    Args:
        fingerprints: of the images.
        by: which pairs join: some of "exact" (identical pixels), "confirmed",
            "dhash" and "cosine" (see `NearPairs`). "dhash" alone joins smooth
            images by chance, and chains of "cosine" pairs can be long.
        near: pairs found before, to save the search.
        groups: (n,) what joins as well: lesion, slide, patient.

    Returns:
        (n,) group numbers in order of first appearance. Images that are black,
        absent or unreadable are joined by `groups` alone.
    """
    by = (by,) if isinstance(by, str) else tuple(by)
    unknown = [name for name in by if name not in MEASURES]
    if unknown:
        raise ValueError(
            f"by={by!r} names {unknown[0]!r}: expected some of {', '.join(MEASURES)}."
        )
    edges = []
    if groups is not None:
        edges.append(chain(np.unique(groups, return_inverse=True)[1].reshape(-1)))
    if "exact" in by:
        edges.append(chain(fingerprints.pixel_codes))
    searched = [name for name in MEASURES[1:] if name in by]
    if searched and near is None:
        near = near_pairs(fingerprints)
    for name in searched:
        pairs = getattr(near, name)
        edges.append((pairs.first, pairs.second))
    return components(len(fingerprints), edges)


def merging_rule(source: Source) -> tuple[str, ...]:
    """Which pairs join the groups of a source unless the caller says.

    That of its data set (`Dataset.merge_groups_by`); `DEFAULT` elsewhere.
    """
    dataset = DATASETS.get(source.name)
    return DEFAULT if dataset is None else dataset.merge_groups_by


def needs_thumbnails(by: Sequence[str]) -> bool:
    """Whether more than identical pixels is looked for."""
    return bool(set(by) - {"exact"})


def merge_groups(
    source: Source,
    fingerprints: Fingerprints | None = None,
    by: Sequence[str] | None = None,
    near: NearPairs | None = None,
    progress: bool = True,
) -> Source:
    """The source with groups that also hold copies and near duplicates together.

    Two groups become one when an image of the one is a near duplicate of an image
    of the other: SIPaKMeD slides photographed twice, for example. Call this before
    `split`.

    Args:
        source: whose `groups` are merged.
        fingerprints: `fingerprint(source)`. Left out, the images of every modality
            are looked at.
        by: which pairs join; see `near_groups`. Left out, the pairs that hold for
            the data set (`DATASETS[source.name].merge_groups_by`), and identical and
            confirmed ones for others.
        near: pairs found before, to save the search.
        progress: whether to show progress bars when it takes a while.

    Returns:
        The source with new `groups`; each is called like the first, in sorted
        order, of the groups that went into it.
    """
    by = merging_rule(source) if by is None else by
    if fingerprints is None:
        for name in source.modalities if by else ():
            prints = fingerprint(
                source, progress, modality=name, thumbnails=needs_thumbnails(by)
            )
            source = merge_groups(source, prints, by, near, progress)
        return source
    check_rows(fingerprints, source)
    if near is None and needs_thumbnails(by):
        near = near_pairs(fingerprints, progress=progress)
    merged = near_groups(fingerprints, by, near, source.groups)
    names, number = np.unique(source.groups, return_inverse=True)
    first = np.full(merged.max(initial=-1) + 1, len(names), np.int64)
    np.minimum.at(first, merged, number.reshape(-1))
    return replace(source, groups=names[first[merged]])
