"""How much a split leaks, and how far nearest neighbours alone get on it."""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass, field

import numpy as np

from drifa_keras.data._checks import track
from drifa_keras.data.leakage.fingerprints import Fingerprints, check_rows, the_only
from drifa_keras.data.leakage.near import BLOCK, NearPairs, near_pairs
from drifa_keras.data.leakage.pairs import Pairs
from drifa_keras.data.source import Source
from drifa_keras.data.splits import PARTS, Split


@dataclass(frozen=True)
class SplitAudit:
    """What is wrong with one way of splitting.

    Shares are of the test images that have a picture and a label. In a
    cross-validation every image is tested once against the other folds.

    Args:
        name: "given", "official", "random" or "grouped".
        folds: 1 for a split into parts, else the folds of the cross-validation.
        train: images learnt from (on average over the folds).
        test: images tested (over all folds).
        exact: share with an identical image in training.
        confirmed: share with a confirmed near duplicate in training.
        dhash: share with a difference hash at most 2 bits away in training.
        cosine: share with a thumbnail of cosine >= `threshold` in training.
        threshold: of `cosine`, and of "near twin" below.
        same_group: share whose group (lesion, slide, ...) is in training as well.
        same_group_by_class: the same for each class.
        straddling: groups in more than one part or fold, with more than one image.
        straddling_copies: sets of identical images in more than one part or fold.
        neighbour: accuracy of the nearest neighbour on raw 64x64 grey pixels.
        neighbour_spread: its standard deviation over the folds.
        neighbour_balanced: its mean recall over the classes.
        neighbour_without_twin: its accuracy on test images without a near twin.
        without_twin: how many those are.
        lower_bounds: whether `confirmed` and `dhash` are at least, not exactly, what
            is given: there were too many pairs to keep all.
    """

    name: str
    folds: int
    train: int
    test: int
    exact: float
    confirmed: float
    dhash: float
    cosine: float
    threshold: float
    same_group: float
    same_group_by_class: dict[str, float] = field(default_factory=dict)
    straddling: int = 0
    straddling_copies: int = 0
    neighbour: float | None = None
    neighbour_spread: float | None = None
    neighbour_balanced: float | None = None
    neighbour_without_twin: float | None = None
    without_twin: int = 0
    lower_bounds: bool = False

    def to_dict(self) -> dict:
        """Everything, as JSON can hold it."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, eq=False)
class Scheme:
    """Who may be compared with whom.

    Args:
        name: of the split.
        fold: (n,) part or fold; -1 for rows that take no part. A row is compared
            with the rows of all other folds.
        tested: (n,) rows whose neighbour is asked for.
        folds: 1 for a split into parts.
        parts: (n,) train, val, test as 0, 1, 2, or the fold; -1 outside. Unlike
            `fold` this holds the validation part and rows without a picture.
    """

    name: str
    fold: np.ndarray
    tested: np.ndarray
    folds: int
    parts: np.ndarray


def part_codes(split: Split, n: int) -> np.ndarray:
    """(n,) 0, 1, 2 for train, val and test; -1 for rows in no part."""
    codes = np.full(n, -1, np.int64)
    for number, (part, rows) in enumerate(split.parts().items()):
        if rows.size and not (rows.min() >= 0 and rows.max() < n):
            raise ValueError(
                f"The {part} part has indices {rows.min()}..{rows.max()}: the source "
                f"has {n} cases; split this source."
            )
        repeated = codes[rows] >= 0
        if repeated.any() or len(np.unique(rows)) < len(rows):
            row = int(rows[repeated][0]) if repeated.any() else int(rows[0])
            raise ValueError(
                f"The {part} part repeats rows, e.g. row {row} "
                f"({PARTS[codes[row]] if repeated.any() else part}): expected every "
                "case in one part at most; split again."
            )
        codes[rows] = number
    return codes


def scheme_of_split(name: str, split: Split, known: np.ndarray) -> Scheme:
    """Test (or, where there is none, validation) against training."""
    parts = part_codes(split, len(known))
    held_out = 2 if (parts == 2).any() else 1
    fold = np.where(known & (parts == 0), 0, -1)
    fold[known & (parts == held_out)] = 1
    return Scheme(name, fold, fold == 1, 1, parts)


def random_scheme(labels, known, folds: int, seed: int) -> Scheme | None:
    """Cross-validation over single images, stratified by class."""
    rows = np.flatnonzero(known)
    folds = min(folds, len(rows))
    if folds < 2:
        return None
    order = np.random.default_rng(seed).permutation(rows)
    order = order[np.argsort(labels[order], kind="stable")]
    fold = np.full(len(labels), -1, np.int64)
    fold[order] = np.arange(len(order)) % folds  # dealt out class by class
    return Scheme("random", fold, fold >= 0, folds, fold)


def grouped_scheme(labels, known, groups, folds: int, seed: int) -> Scheme | None:
    """Cross-validation over whole groups, stratified by class."""
    rows = np.flatnonzero(known)
    if not rows.size:
        return None
    # The stratified folds need one class, at least, that reaches into all of them.
    most = min(len(np.unique(groups[rows])), int(np.bincount(labels[rows]).max()))
    folds = min(folds, most)
    if folds < 2:
        return None
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    fold = np.full(len(labels), -1, np.int64)
    with warnings.catch_warnings():
        # A class with fewer images than folds is missing in some; that is expected.
        warnings.simplefilter("ignore", UserWarning)
        parts = splitter.split(rows[:, None], labels[rows], groups[rows])
        for number, (_, held_out) in enumerate(parts):
            fold[rows[held_out]] = number
    return Scheme("grouped", fold, fold >= 0, folds, fold)


def audit_split(
    source: Source,
    split: Split,
    fingerprints: Fingerprints,
    near: NearPairs | None = None,
    *,
    task: str | None = None,
    name: str = "given",
    progress: bool = True,
) -> SplitAudit:
    """Audit one split alone; `audit` does more.

    Args:
        source: what was split.
        split: its parts.
        fingerprints: `fingerprint(source)`.
        near: pairs found before, to save the search.
        task: whose labels count, in a source with several tasks.
        name: of the split, in the result.
        progress: whether to show a progress bar when it takes a while.
    """
    check_rows(fingerprints, source)
    task = the_only("task", source.targets, task)
    near = near_pairs(fingerprints, progress=progress) if near is None else near
    labels, class_names = source.case_labels(task)
    scheme = scheme_of_split(name, split, fingerprints.usable & (labels >= 0))
    return audit_schemes(
        [scheme],
        fingerprints,
        near,
        labels,
        class_names,
        source.groups,
        progress,
    )[0]


def audit_schemes(
    schemes: list[Scheme],
    fingerprints: Fingerprints,
    near: NearPairs,
    labels: np.ndarray,
    class_names: tuple[str, ...],
    groups: np.ndarray,
    progress: bool,
) -> list[SplitAudit]:
    """Audit several ways of splitting with one look at all thumbnails."""
    neighbours = nearest(fingerprints.thumbnails, schemes, progress)
    pixels = fingerprints.pixel_codes
    group_codes = np.unique(groups, return_inverse=True)[1].reshape(-1)
    results = []
    for scheme, (neighbour, score) in zip(schemes, neighbours, strict=True):
        tested = scheme.tested
        shared = _shares_code(group_codes, scheme)
        by_class = {
            name: float(shared[tested & (labels == label)].mean())
            for label, name in enumerate(class_names)
            if (tested & (labels == label)).any()
        }
        results.append(
            SplitAudit(
                name=scheme.name,
                folds=scheme.folds,
                train=_train_size(scheme),
                test=int(tested.sum()),
                exact=_share(_shares_code(pixels, scheme), tested),
                confirmed=_share(_paired(near.confirmed, scheme), tested),
                dhash=_share(_paired(near.dhash, scheme), tested),
                cosine=_share(score >= near.threshold, tested),
                threshold=near.threshold,
                same_group=_share(shared, tested),
                same_group_by_class=by_class,
                straddling=len(straddling(group_codes, scheme.parts)),
                straddling_copies=len(straddling(pixels, scheme.parts)),
                lower_bounds=not (near.confirmed.complete and near.dhash.complete),
                **_neighbour_scores(scheme, neighbour, score, labels, near.threshold),
            )
        )
    return results


def nearest(
    thumbnails: np.ndarray, schemes: list[Scheme], progress: bool = True
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The most similar row of another fold, for each scheme.

    Returns:
        For each scheme rows (n,) and their cosine (n,); -1 and -2 for rows that are
        not tested or have nothing to be compared with.
    """
    n = len(thumbnails)
    found = [(np.full(n, -1, np.int64), np.full(n, -2, np.float32)) for _ in schemes]
    wanted = np.any([np.zeros(n, bool), *(s.tested for s in schemes)], axis=0)
    wanted = np.flatnonzero(wanted)
    starts = range(0, len(wanted), BLOCK)
    for start in track(starts, len(starts), "Nearest neighbours", progress):
        block = wanted[start : start + BLOCK]
        scores = thumbnails[block] @ thumbnails.T  # (block, n)
        for scheme, (neighbour, best) in zip(schemes, found, strict=True):
            inside = scheme.tested[block]
            rows, fold = block[inside], scheme.fold
            barred = (fold[rows][:, None] == fold) | (fold < 0)
            mine = np.where(barred, np.float32(-2), scores[inside])
            neighbour[rows] = mine.argmax(axis=1)
            best[rows] = mine.max(axis=1)
    for neighbour, best in found:
        neighbour[best <= -2] = -1
    return found


def straddling(codes: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """The codes of which there are rows in more than one part."""
    inside = (codes >= 0) & (parts >= 0)
    pairs = np.unique(np.stack([codes[inside], parts[inside]]), axis=1)
    values, counts = np.unique(pairs[0], return_counts=True)
    return values[counts > 1]


def _shares_code(codes: np.ndarray, scheme: Scheme) -> np.ndarray:
    """(n,) whether a row of another fold has the same code."""
    hit = np.zeros(len(codes), bool)
    inside = (codes >= 0) & (scheme.fold >= 0)
    hit[inside] = np.isin(codes[inside], straddling(codes, scheme.fold))
    return hit


def _paired(pairs: Pairs, scheme: Scheme) -> np.ndarray:
    hit = np.zeros(len(scheme.fold), bool)
    first, second = scheme.fold[pairs.first], scheme.fold[pairs.second]
    across = (first >= 0) & (second >= 0) & (first != second)
    hit[pairs.first[across]] = hit[pairs.second[across]] = True
    return hit


def _share(hit: np.ndarray, tested: np.ndarray) -> float:
    return float(hit[tested].mean()) if tested.any() else 0.0


def _train_size(scheme: Scheme) -> int:
    inside = int((scheme.fold >= 0).sum())
    if scheme.folds == 1:
        return inside - int(scheme.tested.sum())
    return round(inside * (scheme.folds - 1) / scheme.folds)


def _neighbour_scores(scheme, neighbour, score, labels, threshold) -> dict:
    asked = scheme.tested & (neighbour >= 0)
    if not asked.any():
        return {}
    right = asked & (labels == labels[neighbour])
    apart = asked & (score < threshold)
    recalls = [right[asked & (labels == k)].mean() for k in np.unique(labels[asked])]
    by_fold = [right[asked & (scheme.fold == fold)] for fold in range(scheme.folds)]
    accuracies = [hits.mean() for hits in by_fold if hits.size]
    return {
        "neighbour": float(right[asked].mean()),
        "neighbour_spread": float(np.std(accuracies)) if scheme.folds > 1 else None,
        "neighbour_balanced": float(np.mean(recalls)),
        "neighbour_without_twin": float(right[apart].mean()) if apart.any() else None,
        "without_twin": int(apart.sum()),
    }
