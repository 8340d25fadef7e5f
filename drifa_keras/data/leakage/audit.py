"""The audit of a source: what is wrong with its images, labels and splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from drifa_keras.data._checks import check_count, check_seed
from drifa_keras.data.leakage.confounds import Confounds, confounds
from drifa_keras.data.leakage.fingerprints import (
    Fingerprints,
    check_rows,
    fingerprint,
    the_only,
)
from drifa_keras.data.leakage.groups import merging_rule, near_groups
from drifa_keras.data.leakage.near import CORRELATION, near_pairs
from drifa_keras.data.leakage.pairs import Pairs, components
from drifa_keras.data.leakage.splits import (
    SplitAudit,
    audit_schemes,
    grouped_scheme,
    random_scheme,
    scheme_of_split,
)
from drifa_keras.data.leakage.worst import Pair, worst_pairs
from drifa_keras.data.source import Source
from drifa_keras.data.splits import Split

_LISTED = 1000


@dataclass(frozen=True)
class Exact:
    """Images with identical decoded pixels.

    Args:
        sets: how many sets of two images or more.
        surplus: copies that could go: images in these sets less one a set.
        across_classes: sets with more than one label.
        across_groups: sets in more than one group of the source.
        files: the ids in each set.
    """

    sets: int
    surplus: int
    across_classes: int
    across_groups: int
    files: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Near:
    """Pairs of look-alikes by one measure; exact copies are among them.

    Args:
        pairs: how many.
        images: how many images are in a pair.
        clusters: connected components of two images or more.
        largest: images in the largest of them.
        across_classes: pairs with two labels.
        across_groups: pairs in two groups of the source.
        complete: whether the last two were counted on all pairs; with millions of
            pairs they were not, and are lower bounds.
    """

    pairs: int
    images: int
    clusters: int
    largest: int
    across_classes: int
    across_groups: int
    complete: bool


@dataclass(frozen=True)
class Audit:
    """What `audit` found.

    Args:
        name: of the source.
        modality: whose images were looked at.
        task: whose labels were used.
        images: rows of the source.
        classes: images of each class.
        unlabelled: images without a label.
        absent: rows without an image.
        unreadable: `{"id", "error"}` of each file that cannot be read.
        black: ids of the files that are black everywhere.
        groups: groups of the source.
        merged_groups: groups once near duplicates are held together.
        merged_by: which pairs join them; see `near_groups`.
        largest_merged_group: images in the largest of these.
        exact: identical images.
        near: near duplicates by "dhash", "confirmed" and "cosine".
        conflicts: sets of identical, and pairs of confirmed, images with different
            labels: `{"measure", "ids", "classes"}`, the first 1,000.
        confounds: image size and mode against the class; None with no labelled image.
        splits: the given, the official, a random and a grouped split.
        worst: rows of the worst pairs "across_classes", "across_split" (train and
            test of the given or official split) and "across_groups", for
            `contact_sheet`.
        threshold: smallest cosine of a near twin.
        seed: of the random and the grouped folds.
    """

    name: str
    modality: str
    task: str
    images: int
    classes: dict[str, int]
    unlabelled: int
    absent: int
    unreadable: tuple[dict[str, str], ...]
    black: tuple[str, ...]
    groups: int
    merged_groups: int
    merged_by: tuple[str, ...]
    largest_merged_group: int
    exact: Exact
    near: dict[str, Near]
    conflicts: tuple[dict, ...]
    confounds: Confounds | None
    splits: tuple[SplitAudit, ...]
    worst: dict[str, tuple[Pair, ...]] = field(repr=False)
    threshold: float = CORRELATION
    seed: int = 0

    def split(self, name: str) -> SplitAudit:
        """The audit of the split "given", "official", "random" or "grouped"."""
        for entry in self.splits:
            if entry.name == name:
                return entry
        raise ValueError(
            f"split={name!r} was not audited: expected one of "
            f"{[entry.name for entry in self.splits]}."
        )

    def to_dict(self) -> dict:
        """Everything, as JSON can hold it."""
        table = {
            key: value
            for key, value in self.__dict__.items()
            if key not in ("exact", "near", "confounds", "splits", "worst")
        }
        return {
            **{k: list(v) if isinstance(v, tuple) else v for k, v in table.items()},
            "exact": {
                **asdict(self.exact),
                "files": [list(f) for f in self.exact.files],
            },
            "near": {name: asdict(entry) for name, entry in self.near.items()},
            "confounds": self.confounds and self.confounds.to_dict(),
            "splits": {entry.name: entry.to_dict() for entry in self.splits},
            "worst": {
                name: [pair._asdict() for pair in pairs]
                for name, pairs in self.worst.items()
            },
        }

    def table(self) -> list[tuple[str, str, str]]:
        """Rows (section, what, value) to print."""
        from drifa_keras.data.leakage.table import rows

        return rows(self)


def audit(
    source: Source,
    split: Split | None = None,
    *,
    fingerprints: Fingerprints | None = None,
    modality: str | None = None,
    task: str | None = None,
    by: Sequence[str] | None = None,
    threshold: float = CORRELATION,
    folds: int = 10,
    seed: int = 0,
    progress: bool = True,
) -> Audit:
    """Look for leakage in a source and in its splits.

    The given split and the publisher's are audited as they are. What a random
    split over images leaks, and what a split over groups and near duplicates
    leaves, is measured by cross-validation, in which every image is tested once.

    Args:
        source: what to audit; `image_folder` reads any folder of classes.
        split: one of its splits.
        fingerprints: `fingerprint(source)`, to save reading the images again.
        modality: which images of a source with several modalities.
        task: whose labels, in a source with several tasks.
        by: which pairs the grouped split holds together; see `near_groups`. Left
            out, those of `merge_groups`.
        threshold: smallest cosine of two thumbnails that makes them near twins.
        folds: of the random and the grouped split; 10 tests on a tenth at a time.
        seed: of the random and the grouped folds.
        progress: whether to show progress bars when it takes a while.
    """
    seed, folds = check_seed(seed), check_count(folds, "folds")
    modality = the_only("modality", source.modalities, modality)
    task = the_only("task", source.targets, task)
    if fingerprints is None:
        fingerprints = fingerprint(source, progress, modality=modality)
    check_rows(fingerprints, source)
    labels, class_names = source.case_labels(task)
    if by is None:
        by = merging_rule(source)
    near = near_pairs(fingerprints, threshold, progress)
    merged = near_groups(fingerprints, by, near, source.groups)

    known = fingerprints.usable & (labels >= 0)
    schemes = []
    if split is not None:
        schemes.append(scheme_of_split("given", split, known))
    if source.official_split is not None:
        official = _official(source)
        schemes.append(scheme_of_split("official", official, known))
    by_image = random_scheme(labels, known, folds, seed)
    by_group = grouped_scheme(labels, known, merged, folds, seed)
    schemes += [scheme for scheme in (by_image, by_group) if scheme is not None]
    splits = audit_schemes(
        schemes, fingerprints, near, labels, class_names, source.groups, progress
    )
    counts = np.bincount(labels[labels >= 0], minlength=len(class_names))
    unreadable = np.flatnonzero(fingerprints.error != "")
    return Audit(
        name=source.name,
        modality=modality,
        task=task,
        images=len(source),
        classes=dict(zip(class_names, counts.tolist(), strict=True)),
        unlabelled=int((labels < 0).sum()),
        absent=int(fingerprints.absent.sum()),
        unreadable=tuple(
            {"id": str(source.ids[row]), "error": str(fingerprints.error[row])}
            for row in unreadable
        ),
        black=tuple(source.ids[fingerprints.black].tolist()),
        groups=len(np.unique(source.groups)),
        merged_groups=len(np.unique(merged)),
        merged_by=(by,) if isinstance(by, str) else tuple(by),
        largest_merged_group=int(np.bincount(merged).max()) if len(merged) else 0,
        exact=_exact(source, fingerprints, labels),
        near={
            name: _near(getattr(near, name), labels, source.groups)
            for name in ("dhash", "confirmed", "cosine")
        },
        conflicts=_conflicts(source, fingerprints, near, labels, class_names),
        confounds=None
        if by_image is None
        else confounds(fingerprints, labels, class_names, by_image.fold),
        splits=tuple(splits),
        worst=worst_pairs(source, fingerprints, near, labels, schemes),
        threshold=float(threshold),
        seed=seed,
    )


def _official(source: Source) -> Split:
    """The publisher's split, also where it leaks, which `split` would refuse."""
    parts = source.official_split
    return Split(*(np.flatnonzero(parts == part) for part in ("train", "val", "test")))


def _copies(prints: Fingerprints) -> list[np.ndarray]:
    """The rows of each set of identical images."""
    codes = prints.pixel_codes
    rows = np.flatnonzero(codes >= 0)
    rows = rows[np.argsort(codes[rows], kind="stable")]
    sets = np.split(rows, np.flatnonzero(np.diff(codes[rows])) + 1)
    return sorted((s for s in sets if len(s) > 1), key=lambda members: members[0])


def _exact(source: Source, prints: Fingerprints, labels) -> Exact:
    sets = _copies(prints)
    return Exact(
        sets=len(sets),
        surplus=sum(len(members) - 1 for members in sets),
        across_classes=sum(_mixed(labels[members]) for members in sets),
        across_groups=sum(len(set(source.groups[m].tolist())) > 1 for m in sets),
        files=tuple(tuple(source.ids[members].tolist()) for members in sets),
    )


def _mixed(labels: np.ndarray) -> bool:
    return len(set(labels[labels >= 0].tolist())) > 1


def _near(pairs: Pairs, labels, groups) -> Near:
    sizes = np.bincount(components(len(labels), [(pairs.first, pairs.second)]))
    return Near(
        pairs=pairs.total,
        images=pairs.images,
        clusters=int((sizes > 1).sum()),
        largest=int(sizes.max()) if len(pairs) else 0,
        across_classes=int(_differ(pairs, labels).sum()),
        across_groups=int((groups[pairs.first] != groups[pairs.second]).sum()),
        complete=pairs.complete,
    )


def _differ(pairs: Pairs, labels) -> np.ndarray:
    first, second = labels[pairs.first], labels[pairs.second]
    return (first >= 0) & (second >= 0) & (first != second)


def _conflicts(source, prints, near, labels, class_names) -> tuple[dict, ...]:
    copies = [s for s in _copies(prints) if _mixed(labels[s])]
    found = [("identical", members) for members in copies]
    pairs, codes = near.confirmed, prints.pixel_codes
    mixed = _differ(pairs, labels) & (codes[pairs.first] != codes[pairs.second])
    first, second = pairs.first[mixed][:_LISTED], pairs.second[mixed][:_LISTED]
    found += [("confirmed", members) for members in np.stack([first, second], axis=1)]
    return tuple(
        {
            "measure": measure,
            "ids": source.ids[members].tolist(),
            "classes": [
                class_names[k] if k >= 0 else "unknown" for k in labels[members]
            ],
        }
        for measure, members in found[:_LISTED]
    )
