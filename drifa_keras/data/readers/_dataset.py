"""Dataset: what is known of a published data set, and what its reader shares."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from drifa_keras.data.readers import _layout
from drifa_keras.data.source import Source


@dataclass(frozen=True, eq=False)
class Dataset:
    """Facts about one published data set.

    Args:
        name: the key in `DATASETS`.
        title: its name as people write it.
        modality: default name of its images in a `Source`.
        task: default name of its labels in a `Source`.
        classes: names of the classes, label 0 first.
        images: how many images its publisher gives (of BraTS, how many subjects).
        licence: the terms, as the publisher states them.
        citation: what to cite.
        doi: of the data where it has one, else of the paper.
        kaggle: `owner/name` on Kaggle, or None.
        group_key: what must not straddle a split, and where it comes from.
        reader: the function that makes a `Source`.
        find: from a folder to the data set in it, or None if it is not there.
        layout: the files that the reader expects, in one sentence.
        page: address of the publisher's page.
        counts: published number of images a class (or a part); verified on reading.
        official_split: the publisher's split in one sentence; empty if there is none.
        merge_groups_by: which look-alikes are held together with the groups when it
            is split; see `drifa_keras.data.leakage.near_groups`.
        split: shares of train, val and test by default.
        official_split_leaks: whether that split is known to share images or
            patients between its parts.
    """

    name: str
    title: str
    modality: str
    task: str
    classes: tuple[str, ...]
    images: int
    licence: str
    citation: str
    doi: str
    kaggle: str | None
    group_key: str
    reader: Callable[..., Source]
    find: Callable[[str | os.PathLike], Path | None]
    layout: str
    page: str
    counts: Mapping[str, int] = field(default_factory=dict)
    official_split: str = ""
    official_split_leaks: bool = False
    merge_groups_by: tuple[str, ...] = ("exact", "confirmed")
    split: tuple[float, float, float] = (0.8, 0.1, 0.1)

    def present(self, root: str | os.PathLike) -> bool:
        """Whether the data set lies in `root` or one of its folders."""
        return self.find(root) is not None

    def read(self, root: str | os.PathLike, **options) -> Source:
        """Read the data set from `root`; `options` go to the reader."""
        return self.reader(self.find(root) or root, **options)

    @property
    def where(self) -> str:
        """Where the data come from and under which terms, in one sentence."""
        kaggle = f"Kaggle ({self.kaggle}) or " if self.kaggle else ""
        return f"Get it from {kaggle}{self.page} (doi:{self.doi}; {self.licence})."

    @property
    def remedy(self) -> str:
        """What was expected and where it comes from, for error messages."""
        return f"Expected {self.layout}. {self.where}"

    def missing(self, root: str | os.PathLike) -> ValueError:
        """The error to raise where the data set is not found."""
        return ValueError(
            f"{self.title} not found: {_layout.found(root)}. {self.remedy}"
        )

    def verify(self, names: Iterable[str], where: str | os.PathLike) -> None:
        """Warn once where the images a class differ from the published numbers."""
        values, numbers = np.unique(np.asarray(list(names), str), return_counts=True)
        have = dict(zip(values.tolist(), numbers.tolist(), strict=True))
        odd = [
            f"{name} {have.get(name, 0):,} of {count:,}"
            for name, count in self.counts.items()
            if have.get(name, 0) != count
        ]
        if odd:
            warn(
                f"{self.title} in {where} differs from what was published: "
                f"{', '.join(odd)}. Figures on it are not comparable; get the whole "
                f"set, or pass verify=False. {self.where}"
            )


def warn(message: str) -> None:
    """Warn at the line outside this package that asked for the data."""
    # `skip_file_prefixes` of warnings.warn needs Python 3.12.
    frame, level = sys._getframe(1), 2
    while frame and frame.f_globals.get("__name__", "").startswith("drifa_keras."):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
