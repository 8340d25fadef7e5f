"""The audit as rows of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drifa_keras.data.leakage.audit import Audit
    from drifa_keras.data.leakage.splits import SplitAudit

_SHOWN = 5


def rows(audit: Audit) -> list[tuple[str, str, str]]:
    """(section, what, value), one finding each."""
    return [*_images(audit), *_copies(audit), *_confounds(audit), *_splits(audit)]


def _images(audit: Audit):
    section = "images"
    classes = ", ".join(f"{name} {count}" for name, count in audit.classes.items())
    yield section, "images", str(audit.images)
    yield section, "classes", classes
    if audit.unlabelled:
        yield section, "without a label", str(audit.unlabelled)
    if audit.absent:
        yield section, "absent", str(audit.absent)
    unreadable = [entry["id"] for entry in audit.unreadable]
    yield section, "unreadable files", _with_names(unreadable)
    yield section, "black files", _with_names(list(audit.black))
    yield section, "groups", str(audit.groups)
    yield (
        section,
        f"groups with near duplicates ({', '.join(audit.merged_by)})",
        f"{audit.merged_groups}; the largest holds {audit.largest_merged_group}",
    )


def _copies(audit: Audit):
    section, exact = "duplicates", audit.exact
    yield (
        section,
        "identical pixels",
        f"{exact.sets} sets, {exact.surplus} surplus copies; {exact.across_classes} "
        f"sets across classes, {exact.across_groups} across groups",
    )
    names = {
        "dhash": "dHash <= 2 bits (chance hits included)",
        "confirmed": "dHash confirmed by thumbnails",
        "cosine": f"64x64 cosine >= {audit.threshold:g}",
    }
    for key, what in names.items():
        near = audit.near[key]
        least = "" if near.complete else "at least "
        yield (
            section,
            what,
            f"{near.pairs} pairs of {near.images} images in {near.clusters} clusters "
            f"(largest {near.largest}); {least}{near.across_classes} pairs across "
            f"classes, {least}{near.across_groups} across groups",
        )
    conflicts = [" = ".join(entry["ids"]) for entry in audit.conflicts]
    yield section, "label conflicts", _with_names(conflicts)


def _confounds(audit: Audit):
    section, found = "confounds", audit.confounds
    if found is None:
        return
    yield (
        section,
        "image size and class",
        f"Cramér's V {found.size_v:.2f} ({found.sizes} sizes)",
    )
    yield (
        section,
        "image mode and class",
        f"Cramér's V {found.mode_v:.2f} ({found.modes} modes)",
    )
    yield (
        section,
        "class guessed from size and mode alone",
        f"{found.accuracy:.1%} (balanced {found.balanced:.1%}; commonest class "
        f"{found.majority:.1%})",
    )


def _splits(audit: Audit):
    for entry in audit.splits:
        section = f"{entry.name} split"
        how = "parts" if entry.folds == 1 else f"{entry.folds} folds"
        yield section, "training / test images", f"{entry.train} / {entry.test} ({how})"
        yield (
            section,
            "straddling",
            f"{entry.straddling} groups, {entry.straddling_copies} sets of copies",
        )
        least = "at least " if entry.lower_bounds else ""
        yield section, "test images whose group is in training", _same_group(entry)
        yield section, "... with an identical twin in training", f"{entry.exact:.1%}"
        yield (
            section,
            "... with a confirmed twin in training",
            f"{least}{entry.confirmed:.1%} ({least}{entry.dhash:.1%} by dHash alone)",
        )
        yield (
            section,
            f"... with a cosine >= {entry.threshold:g} twin in training",
            f"{entry.cosine:.1%}",
        )
        if entry.neighbour is not None:
            yield section, "nearest neighbour on raw pixels", _neighbour(entry)


def _same_group(entry: SplitAudit) -> str:
    text = f"{entry.same_group:.1%}"
    if entry.same_group and len(entry.same_group_by_class) > 1:
        worst = max(entry.same_group_by_class.items(), key=lambda item: item[1])
        text += f" (most in {worst[0]}: {worst[1]:.1%})"
    return text


def _neighbour(entry: SplitAudit) -> str:
    spread = entry.neighbour_spread
    text = f"{entry.neighbour:.1%}" + ("" if spread is None else f" +- {spread:.1%}")
    text += f" (balanced {entry.neighbour_balanced:.1%}"
    if entry.neighbour_without_twin is not None:
        text += (
            f"; {entry.neighbour_without_twin:.1%} on the {entry.without_twin} "
            "without a near twin"
        )
    return text + ")"


def _with_names(names: list[str]) -> str:
    if not names:
        return "0"
    more = ", ..." if len(names) > _SHOWN else ""
    return f"{len(names)}: {', '.join(names[:_SHOWN])}{more}"
