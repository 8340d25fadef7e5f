"""What it learnt from and was tested on, and whether the two are apart."""

from __future__ import annotations

import shlex
from collections import Counter

from drifa_keras.data import DATASETS
from drifa_keras.report.contents import Contents
from drifa_keras.report.document import Absent, Facts, Part, Section, Table, Text
from drifa_keras.report.sections._text import number, share

_PARTS = ("train", "val", "test")


def data_section(contents: Contents) -> Section:
    """Which images are in which part."""
    data = contents.config.data
    how = [
        ("shares of train, validation, test", _shares(data)),
        ("seed", str(data.split_seed)),
        ("held together besides groups", _merged(data)),
    ]
    if data.split_file is not None:
        how.append(("taken from", data.split_file))
    blocks = [Facts(how)]
    if contents.splits is None:
        blocks.append(Text("The run has no splits.json.", warning=True))
    else:
        blocks.append(
            Table(
                "Images (and groups, such as patients or lesions) in each part",
                ["source", "training", "validation", "test"],
                [
                    [source, *(_size(split, part) for part in _PARTS)]
                    for source, split in contents.splits.items()
                ],
            )
        )
    return Section("data", "Data and splits", blocks)


def leakage_section(contents: Contents) -> Section:
    """What is in more than one part, as training found and as counted again."""
    blocks = [Text(leak, warning=True) for leak in contents.run.leakage]
    if contents.splits is not None:
        blocks.append(
            Table(
                "The splits, counted again from splits.json",
                ["source", "groups", "largest group", "groups in several parts"],
                [
                    [source, *(f"{count:,}" for count in _straddling(split))]
                    for source, split in contents.splits.items()
                ],
            )
        )
    if not contents.run.leakage:
        blocks.append(
            Text(
                "Before training, every group and every image of identical pixels was "
                "checked to be in one part alone."
            )
        )
    parts = [Part(f"Audit of {one['name']}", _audit(one)) for one in contents.audits]
    audited = {one["name"] for one in contents.audits}
    for entry in contents.config.data.sources:
        if entry.reader in DATASETS and entry.reader not in audited:
            folder = shlex.quote(str(contents.run.folder / f"audit-{entry.reader}"))
            command = f"drifa data audit {entry.reader}"
            command += f" --root {shlex.quote(contents.config.data.root)}"
            blocks.append(
                Absent(f"Audit of {entry.reader}", f"{command} --out {folder}")
            )
    return Section("leakage", "Leakage", blocks, parts)


def _shares(data):
    if data.official_split:
        return "the split of the publisher"
    return " / ".join(map(str, data.split)) if data.split else "those of the data set"


def _merged(data):
    if data.merge_groups_by is None:
        return "the look-alikes that hold for the data set"
    return ", ".join(data.merge_groups_by) or "nothing"


def _size(split, part):
    ids, groups = split[part], split.get("groups", {})
    return f"{len(ids):,} ({len({groups.get(name, name) for name in ids}):,})"


def _straddling(split):
    """Groups, images of the largest, groups in several parts."""
    groups = split.get("groups", {})
    images = Counter(groups.get(name, name) for part in _PARTS for name in split[part])
    parts = Counter()
    for part in _PARTS:
        parts.update({groups.get(name, name) for name in split[part]})
    several = sum(count > 1 for count in parts.values())
    return len(images), max(images.values(), default=0), several


def _audit(found):
    exact = found["exact"]
    facts = [
        ("images", f"{found['images']:,} in {found['groups']:,} groups"),
        (
            "identical pixels",
            f"{exact['sets']} sets; {exact['across_classes']} across classes, "
            f"{exact['across_groups']} across groups",
        ),
        *(
            (
                f"look-alikes ({kind})",
                f"{near['pairs']:,} pairs; {near['across_classes']:,} across classes, "
                f"{near['across_groups']:,} across groups",
            )
            for kind, near in found["near"].items()
        ),
        ("label conflicts", str(len(found["conflicts"]))),
    ]
    rows = [
        [
            name,
            share(split["same_group"]),
            share(split["exact"]),
            share(split["confirmed"]),
            number(split["neighbour"]),
        ]
        for name, split in found["splits"].items()
    ]
    return [
        Facts(facts),
        Table(
            "Test images with a twin in training, and the accuracy of the nearest "
            "neighbour in raw pixels",
            ["split", "same group", "identical", "look-alike", "nearest neighbour"],
            rows,
        ),
    ]
