"""The pairs that are most worth a look."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from drifa_keras.data.leakage.fingerprints import Fingerprints
from drifa_keras.data.leakage.near import NearPairs
from drifa_keras.data.leakage.pairs import chain
from drifa_keras.data.leakage.splits import Scheme
from drifa_keras.data.source import Source

_SHOWN = 48


class Pair(NamedTuple):
    """Two rows that look alike.

    Args:
        first: row of the source.
        second: row of the source.
        score: cosine of the thumbnails.
        note: by which measure they are alike.
        first_id: what the first is called.
        second_id: what the second is called.
    """

    first: int
    second: int
    score: float
    note: str
    first_id: str
    second_id: str


def worst_pairs(
    source: Source,
    fingerprints: Fingerprints,
    near: NearPairs,
    labels: np.ndarray,
    schemes: list[Scheme],
) -> dict[str, tuple[Pair, ...]]:
    """At most 48 pairs of each kind: identical, then confirmed, then by cosine."""
    first, second, score, measure = _all(fingerprints, near)
    known = (labels[first] >= 0) & (labels[second] >= 0)
    kinds = {
        "across_classes": known & (labels[first] != labels[second]),
        "across_groups": source.groups[first] != source.groups[second],
    }
    across = np.zeros(len(first), bool)
    for scheme in schemes:
        if scheme.folds == 1:
            a, b = scheme.fold[first], scheme.fold[second]
            across |= (a >= 0) & (b >= 0) & (a != b)
    kinds["across_split"] = across
    notes = ("identical", "confirmed", "cosine")
    result = {}
    for kind, keep in kinds.items():
        rows = np.flatnonzero(keep)
        rows = rows[np.lexsort((-score[rows], measure[rows]))][:_SHOWN]
        result[kind] = tuple(
            Pair(
                int(first[r]),
                int(second[r]),
                float(score[r]),
                notes[measure[r]],
                str(source.ids[first[r]]),
                str(source.ids[second[r]]),
            )
            for r in rows
        )
    return result


def _all(prints: Fingerprints, near: NearPairs):
    """Each pair once, under the strictest measure that holds for it."""
    low, high = chain(prints.pixel_codes)
    portions = [
        (low, high, np.ones(len(low))),
        *((p.first, p.second, p.score) for p in (near.confirmed, near.cosine)),
    ]
    measure = np.repeat(np.arange(3), [len(portion[0]) for portion in portions])
    first, second, score = (
        np.concatenate(column) for column in zip(*portions, strict=True)
    )
    key = first.astype(np.int64) * max(1, len(prints)) + second
    kept = np.unique(key, return_index=True)[1]
    codes = prints.pixel_codes
    measure[codes[first] == codes[second]] = 0
    return first[kept], second[kept], score[kept], measure[kept]
