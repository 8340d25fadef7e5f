"""What a report is made of, whatever it looks like in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Text:
    """A paragraph, which may be a `warning`."""

    text: str
    warning: bool = False
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Absent:
    """What is not there yet, and the `command` that makes it."""

    what: str
    command: str
    kind: ClassVar[str] = "absent"


@dataclass(frozen=True)
class Facts:
    """Terms and what they are, as pairs of text."""

    items: Sequence[tuple[str, str]]
    kind: ClassVar[str] = "facts"


@dataclass(frozen=True)
class Table:
    """A table, whose first column names the rows.

    Attributes:
        caption: What it shows.
        header: Names of the columns.
        rows: Text, one row each.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes:
        figure: The figure.
        alt: What it shows, for those who do not see it.
        caption: What to read from it.
        photographs: Whether it is made of images rather than of lines.
    """

    figure: Figure
    alt: str
    caption: str
    photographs: bool = False
    kind: ClassVar[str] = "picture"


Block = Text | Absent | Facts | Table | Picture


@dataclass(frozen=True)
class Part:
    """A part of a section, such as one task."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Section:
    """A section of the report.

    Attributes:
        name: Its anchor.
        title: Its title.
        blocks: What it begins with.
        parts: What follows.
    """

    name: str
    title: str
    blocks: Sequence[Block]
    parts: Sequence[Part] = ()
