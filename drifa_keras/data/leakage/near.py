"""The search for near duplicates, by difference hash and by thumbnail."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from drifa_keras.data._checks import track
from drifa_keras.data.leakage.fingerprints import SIDE, Fingerprints
from drifa_keras.data.leakage.pairs import Collector, Pairs

HAMMING = 2
CORRELATION = 0.98
GREY_LEVELS = 8.0
BLOCK = 512  # rows of one matrix product
_PORTION = 512  # pairs whose thumbnails are compared at a time
_ROUNDING = 0.1  # grey levels, far more than float32 loses


@dataclass(frozen=True, eq=False)
class NearPairs:
    """Pairs of images that look alike, by three measures; exact copies included.

    Args:
        dhash: difference hashes at most 2 bits apart. Smooth images meet this by
            chance.
        confirmed: those `dhash` pairs whose 64x64 thumbnails correlate above 0.98
            and differ by less than 8 grey levels on average.
        cosine: thumbnails with a mean-centred cosine (a correlation) of
            `threshold` or more.
        threshold: of `cosine`.
    """

    dhash: Pairs
    confirmed: Pairs
    cosine: Pairs
    threshold: float = CORRELATION


def near_pairs(
    fingerprints: Fingerprints, threshold: float = CORRELATION, progress: bool = True
) -> NearPairs:
    """Find all pairs of images that look alike.

    The hash search sorts; the thumbnails are compared by blocked matrix products,
    512 rows at a time. Rotated and mirrored copies are not found by either.

    Args:
        fingerprints: of the images.
        threshold: smallest cosine of two thumbnails that counts, above 0.
        progress: whether to show a progress bar when it takes a while.
    """
    if not 0 < threshold <= 1:
        raise ValueError(
            f"threshold={threshold!r} is not usable: expected a cosine above 0 and at "
            "most 1, e.g. 0.98."
        )
    prints, n = fingerprints, len(fingerprints)
    if n and not prints.thumbnails.shape[1]:
        raise ValueError(
            "near_pairs got fingerprints without thumbnails: call "
            "fingerprint(source, thumbnails=True)."
        )
    usable = prints.usable
    cosine, confirmed = Collector(n), Collector(n)
    starts = range(0, n, BLOCK)
    for start in track(starts, len(starts), "Near duplicates", progress):
        thumbnails = prints.thumbnails[start : start + BLOCK]
        scores = thumbnails @ prints.thumbnails[start:].T  # (block, n - start)
        first, second = np.nonzero(scores >= min(threshold, CORRELATION))
        upper = first < second
        first, second = first[upper], second[upper]
        score = np.minimum(scores[first, second], 1.0)
        first, second = first + start, second + start
        alike = score >= threshold
        cosine.add(first[alike], second[alike], score[alike])
        # A confirmed pair correlates above 0.98, so it is among these.
        close = (score > CORRELATION) & (
            _differing_bits(prints.dhash[first], prints.dhash[second]) <= HAMMING
        )
        first, second, score = first[close], second[close], score[close]
        same = _same_grey(prints, first, second, score)
        confirmed.add(first[same], second[same], score[same])
    return NearPairs(
        dhash=hash_pairs(prints.dhash, HAMMING, usable),
        confirmed=confirmed.pairs(),
        cosine=cosine.pairs(),
        threshold=float(threshold),
    )


def hash_pairs(
    hashes: np.ndarray, distance: int = HAMMING, usable: np.ndarray | None = None
) -> Pairs:
    """Pairs of 64-bit hashes that differ in at most `distance` bits.

    Hashes that differ in d bits agree in at least one of d + 1 bands of bits, so
    only hashes that share a band are compared: each band is sorted, and runs of
    equal values are matched at growing offsets.

    Args:
        hashes: (n,) uint64.
        distance: bits, 0 to 15.
        usable: (n,) rows to look at; all by default.

    Returns:
        Pairs whose score is the share of equal bits.
    """
    if not 0 <= distance <= 15:
        raise ValueError(
            f"distance={distance!r} is not usable: expected 0 to 15 differing bits."
        )
    hashes = np.asarray(hashes, np.uint64)
    found = Collector(len(hashes))
    rows = np.arange(len(hashes)) if usable is None else np.flatnonzero(usable)
    edges = np.linspace(0, 64, distance + 2).astype(int)
    masks = [
        np.uint64((1 << int(high)) - (1 << int(low))) for low, high in pairwise(edges)
    ]
    for number, mask in enumerate(masks):
        keys = hashes[rows] & mask
        order = np.argsort(keys, kind="stable")
        keys, sorted_rows = keys[order], rows[order]
        left, offset = np.arange(len(keys)), 0
        while left.size:
            offset += 1
            left = left[left + offset < len(keys)]
            left = left[keys[left] == keys[left + offset]]
            first, second = sorted_rows[left], sorted_rows[left + offset]
            bits = hashes[first] ^ hashes[second]
            count = _bit_count(bits)
            # Each pair is taken in the first band in which it agrees.
            new = count <= distance
            for earlier in masks[:number]:
                new &= (bits & earlier) != 0
            found.add(first[new], second[new], 1 - count[new] / 64)
    return found.pairs()


def _differing_bits(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return _bit_count(first ^ second)


def _bit_count(values: np.ndarray) -> np.ndarray:
    if hasattr(np, "bitwise_count"):  # NumPy 2
        return np.bitwise_count(values)
    octets = np.ascontiguousarray(values).view(np.uint8).reshape(-1, 8)
    return np.unpackbits(octets, axis=1).sum(axis=1, dtype=np.uint8)


def _same_grey(prints: Fingerprints, first, second, score) -> np.ndarray:
    """Whether the thumbnails of each pair differ by less than 8 grey levels.

    The mean absolute difference lies between the difference of the means and the
    root mean square, which both follow from what is known; the pixels are looked
    at only where these do not decide.
    """
    one, other = prints.contrast[first], prints.contrast[second]
    squared = one**2 + other**2 - 2 * one * other * score
    means = np.abs(prints.brightness[first] - prints.brightness[second])
    highest = np.sqrt(np.maximum(squared, 0) / SIDE**2 + means**2)
    same = highest < GREY_LEVELS - _ROUNDING
    unsure = np.flatnonzero(~same & (means < GREY_LEVELS + _ROUNDING))
    for start in range(0, len(unsure), _PORTION):
        rows = unsure[start : start + _PORTION]
        a, b = first[rows], second[rows]
        difference = prints.thumbnails[a] * prints.contrast[a][:, None]
        difference -= prints.thumbnails[b] * prints.contrast[b][:, None]
        difference += (prints.brightness[a] - prints.brightness[b])[:, None]
        same[rows] = np.abs(difference).sum(axis=1) / SIDE**2 < GREY_LEVELS
    return same
