"""Grouped, stratified splits that can be asserted, saved and shared."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from drifa_keras.data._checks import check_seed, listing
from drifa_keras.data.readers import DATASETS
from drifa_keras.data.readers._dataset import warn
from drifa_keras.data.source import Source

PARTS = ("train", "val", "test")
_MOST_FOLDS = 60
_FEWEST = 5  # images of a class, below which shares matter more than strata


@dataclass(frozen=True, eq=False)
class Split:
    """Index arrays of the three parts of one source.

    Args:
        train: rows to learn from.
        val: rows to choose a model by; may be empty.
        test: rows to report on; may be empty.
        ids: the ids of all rows of the source, which `to_json` writes.
        groups: the groups of all rows that were kept together; written with the ids.
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    ids: np.ndarray | None = None
    groups: np.ndarray | None = None

    def __post_init__(self):
        for part in PARTS:
            indices = np.asarray(getattr(self, part), np.int64).reshape(-1)
            object.__setattr__(self, part, indices)

    def parts(self) -> dict[str, np.ndarray]:
        """The index arrays by name."""
        return {part: getattr(self, part) for part in PARTS}

    def assert_disjoint(self, source: Source) -> None:
        """Raise `ValueError` if a row or a group is in more than one part."""
        owner: dict[object, str] = {}
        for part, indices in self.parts().items():
            if indices.size and not (
                indices.min() >= 0 and indices.max() < len(source)
            ):
                raise ValueError(
                    f"The {part} part has indices {indices.min()}..{indices.max()}: "
                    f"source {source.name!r} has {len(source)} cases."
                )
            if len(np.unique(indices)) < len(indices):
                raise ValueError(f"The {part} part holds some rows more than once.")
            for group in np.unique(source.groups[indices]).tolist():
                if group in owner:
                    raise ValueError(
                        f"Group {group!r} of source {source.name!r} is in both "
                        f"{owner[group]} and {part}: all its images belong in one "
                        "part; split again by groups."
                    )
                owner[group] = part

    def to_dict(self) -> dict[str, list[str] | dict[str, str]]:
        """The ids of each part, and the group of each id."""
        if self.ids is None:
            raise ValueError(
                "This split does not know its ids: make it with split(source), or "
                "pass ids=source.ids."
            )
        table = {part: self.ids[rows].tolist() for part, rows in self.parts().items()}
        if self.groups is not None:
            groups = self.groups.astype(str).tolist()
            table["groups"] = dict(zip(self.ids.tolist(), groups, strict=True))
        return table

    def to_json(self) -> str:
        """The ids of each part as JSON, independent of where the images lie."""
        return json.dumps(self.to_dict(), indent=1)

    @classmethod
    def from_json(
        cls, text: str | dict, source: Source, allow_leakage: bool = False
    ) -> Split:
        """Read back what `to_json` (or `to_dict`) gave, for the same source.

        Args:
            text: the JSON.
            source: whose rows it names.
            allow_leakage: whether groups may straddle the parts.

        Returns:
            A split with the groups of the file, or those of the source where the
            file has none.

        Raises:
            ValueError: if ids are unknown, missing or repeated, or a group
                straddles two parts.
        """
        try:
            table = json.loads(text) if isinstance(text, str) else dict(text)
            parts = {part: [str(name) for name in table[part]] for part in PARTS}
            saved = {str(k): str(v) for k, v in table.get("groups", {}).items()}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"Not a saved split ({type(error).__name__}: {error}): expected a "
                "JSON object with lists of ids under train, val and test."
            ) from error
        rows = {name: row for row, name in enumerate(source.ids.tolist())}
        named = [name for names in parts.values() for name in names]
        for what, odd in (
            ("names ids that the source lacks", sorted(set(named) - set(rows))),
            ("lacks ids of the source", sorted(set(rows) - set(named))),
        ):
            if odd:
                raise ValueError(
                    f"The saved split {what} {source.name!r}: {listing(odd)}; it was "
                    "made for other images, so split again."
                )
        if len(named) > len(rows):
            raise ValueError(
                f"The saved split names {len(named)} ids for the {len(rows)} cases "
                f"of {source.name!r}: some are in two parts."
            )
        lost = sorted(set(rows) - set(saved)) if saved else []
        if lost:
            raise ValueError(
                f"The saved split has no group for {listing(lost)}: expected one for "
                "each id, or no `groups` at all."
            )
        groups = np.asarray([saved[name] for name in rows]) if saved else source.groups
        result = cls(
            **{part: [rows[name] for name in names] for part, names in parts.items()},
            ids=source.ids,
            groups=groups,
        )
        if not allow_leakage:
            result.assert_disjoint(replace(source, groups=groups))
        return result

    def __repr__(self) -> str:
        sizes = ", ".join(f"{part}={len(rows)}" for part, rows in self.parts().items())
        return f"Split({sizes})"


def split(
    source: Source,
    fractions: Sequence[float] | None = None,
    seed: int = 0,
    *,
    official: bool = False,
) -> Split:
    """Split a source so that no group straddles and classes keep their shares.

    Strata are the joint labels of all tasks, of a label map whether it shows anything
    but background; joint labels too rare to be spread are treated as one. Shares are
    met as nearly as whole groups allow. Look-alikes in two groups may still straddle:
    `split(merge_groups(source))` keeps them together.

    Args:
        source: what to split.
        fractions: shares of train, val and test; they add up to 1. Left out, those
            of the data set: 0.8, 0.1, 0.1, but 201, 35 and 133 of 369 for BraTS.
        seed: which of the many such splits.
        official: take the publisher's split (`source.official_split`) instead, as it
            is, with a warning where it is known to leak.

    Returns:
        A `Split` whose parts are sorted and, unless `official`, share no group.
    """
    seed = check_seed(seed)
    if official:
        result = _official(source)
    else:
        if fractions is None:
            dataset = DATASETS.get(source.name)
            fractions = (0.8, 0.1, 0.1) if dataset is None else dataset.split
        result = _grouped(source, _check_fractions(fractions), seed)
        result.assert_disjoint(source)
    _warn_of_absent_classes(source, result)
    return result


def _check_fractions(fractions) -> tuple[float, ...]:
    values = tuple(float(value) for value in fractions)
    if (
        len(values) != 3
        or not all(value >= 0 for value in values)
        or abs(sum(values) - 1) > 1e-6
        or not values[0]
    ):
        raise ValueError(
            f"fractions={tuple(fractions)} is not usable: expected shares of train, "
            "val and test, none negative, train above 0, that add up to 1."
        )
    return values


def _official(source: Source) -> Split:
    if source.official_split is None:
        raise ValueError(
            f"Source {source.name!r} has no official split: call split without "
            "official=True."
        )
    rows = {part: np.flatnonzero(source.official_split == part) for part in PARTS}
    dataset = DATASETS.get(source.name)
    members = [np.unique(source.groups[part]) for part in rows.values()]
    groups = len(np.unique(np.concatenate(members)))
    if groups < sum(map(len, members)) or (dataset and dataset.official_split_leaks):
        warn(
            f"The official split of {source.name!r} leaks: the same group, or the same "
            "or nearly the same images, are in several parts. Split by groups "
            "(official=False) for scores that mean something."
        )
    return Split(**rows, ids=source.ids, groups=source.groups)


def _grouped(source: Source, fractions: tuple[float, ...], seed: int) -> Split:
    from sklearn.model_selection import StratifiedGroupKFold

    _, groups = np.unique(source.groups, return_inverse=True)
    number = int(groups.max()) + 1 if len(groups) else 0
    wanted = sum(value > 0 for value in fractions)
    if number < wanted:
        raise ValueError(
            f"Source {source.name!r} has {number} group(s) for {wanted} parts: "
            "expected at least one group a part; collect more, or ask for fewer parts."
        )
    if wanted == 1:
        everything = np.arange(len(source))
        nothing = everything[:0]
        return Split(everything, nothing, nothing, source.ids, source.groups)
    joint, counts = _joint_labels(source)
    most = min(number, _MOST_FOLDS)
    if counts.max() >= _FEWEST:  # the splitter wants a class that is in every fold
        most = min(most, counts.max())
    shares = _folds(fractions, most, wanted)
    folds = sum(shares)
    strata = _strata(joint, counts, folds, several=len(source.targets) > 1)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Strata with fewer images than folds are reported below, by class and part.
        warnings.simplefilter("ignore", UserWarning)
        held_out = [
            rows for _, rows in splitter.split(np.zeros(len(source)), strata, groups)
        ]
    # With few groups some folds stay empty: they must not make up a whole part.
    held_out.sort(key=len, reverse=True)
    order = [2, 1, 0]
    rows: dict[int, list[np.ndarray]] = {part: [] for part in order}
    for part in order:
        for _ in range(shares[part]):
            position = 0 if not rows[part] else -1
            rows[part].append(held_out.pop(position))
    joined = [np.sort(np.concatenate(rows[p] or [groups[:0]])) for p in range(3)]
    return Split(*joined, ids=source.ids, groups=source.groups)


def _folds(fractions, most: int, wanted: int) -> tuple[int, ...]:
    """How many equal folds make up each part: the fewest that meet the shares."""
    best = None
    for folds in range(max(2, wanted), most + 1):
        shares = [max(1, round(f * folds)) if f else 0 for f in fractions]
        shares[0] = folds - shares[1] - shares[2]
        if shares[0] < 1:
            continue
        error = max(abs(s / folds - f) for s, f in zip(shares, fractions, strict=True))
        if best is None or error < best[0] - 1e-9:
            best = (error, tuple(shares))
        if error < 0.005:
            break
    return best[1]


def _joint_labels(source: Source) -> tuple[np.ndarray, np.ndarray]:
    """The combination of labels of each row, numbered, and how often each occurs."""
    labels = np.stack(
        [source.case_labels(task)[0] for task in sorted(source.targets)], axis=1
    )
    _, joint, counts = np.unique(
        labels, axis=0, return_inverse=True, return_counts=True
    )
    return joint.reshape(-1), counts


def _strata(joint, counts, folds: int, several: bool) -> np.ndarray:
    if counts.max() < folds:
        return np.zeros_like(joint)
    rare = counts[joint] < folds
    # A single rare label is left alone: merging is for the many combinations of
    # several tasks, of which most occur a few times.
    if several and rare.any():
        joint = np.where(rare, -1, joint)
    return np.unique(joint, return_inverse=True)[1]


def _warn_of_absent_classes(source: Source, result: Split) -> None:
    parts = {name: rows for name, rows in result.parts().items() if rows.size}
    for task, labels in source.targets.items():
        for label, name in enumerate(source.class_names[task]):
            shown = labels == label
            if shown.ndim > 1:  # of a map, whether any pixel is of the class
                shown = shown.any(axis=(1, 2))
            rows = np.flatnonzero(shown)
            if not rows.size:
                continue
            lacking = [p for p, part in parts.items() if not shown[part].any()]
            if lacking:
                groups = len(np.unique(source.groups[rows]))
                warn(
                    f"Class {name!r} of task {task!r} ({len(rows)} image(s) in "
                    f"{groups} group(s)) is absent from {' and '.join(lacking)}: "
                    "figures for it there are undefined."
                )
