"""Argument checks and the progress bar that the data modules share."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_PROGRESS_AFTER = 1.5  # seconds; shorter work shows no bar

T = TypeVar("T")


def check_name(kind: str, name: object) -> None:
    """Refuse a modality or task name that not every backend can carry."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(
            f"The {kind} name {name!r} is not usable: names start with a letter or "
            "digit and hold only letters, digits, '_' and '-'; rename it."
        )


def safe_name(text: str) -> str:
    """The nearest name that `check_name` accepts."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_-") or "image"


def check_seed(seed: object, what: str = "seed") -> int:
    """Return `seed` as a plain int, refusing what NumPy cannot seed with."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(
            f"{what}={seed!r} is not usable: expected an integer of 0 or more."
        )
    return int(seed)


def check_count(value: object, what: str) -> int:
    """Return `value` as a plain int of at least one."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(
            f"{what}={value!r} is not usable: expected an integer of 1 or more."
        )
    return int(value)


def check_size(size: object) -> tuple[int, int]:
    """Return `size` as (height, width), both positive."""
    usable = isinstance(size, (tuple, list)) and len(size) == 2
    if not usable or not all(
        isinstance(v, (int, np.integer)) and not isinstance(v, bool) and v > 0
        for v in size
    ):
        raise ValueError(
            f"image_size={size!r} is not usable: expected (height, width), two "
            "positive integers, e.g. (64, 64)."
        )
    return int(size[0]), int(size[1])


def listing(values: Iterable[object], limit: int = 3) -> str:
    """A short, readable enumeration for error messages."""
    values = list(values)
    shown = ", ".join(str(v) for v in values[:limit])
    return shown + (f", ... ({len(values)} in all)" if len(values) > limit else "")


def channels_of(
    channels: int | dict[str, int] | None, names: Sequence[str]
) -> dict[str, int]:
    """One channel count (1 or 3) for each modality in `names`; 3 unless told."""
    if isinstance(channels, dict):
        unknown = sorted(set(channels) - set(names))
        if unknown:
            raise ValueError(
                f"channels names the modality {unknown[0]!r}, which is not there: "
                f"expected some of {sorted(names)}."
            )
        table = {name: channels.get(name, 3) for name in names}
    else:
        table = dict.fromkeys(names, 3 if channels is None else channels)
    for name, count in table.items():
        if count not in (1, 3):
            raise ValueError(
                f"channels={count!r} for {name!r} is not usable: expected 1 (grey) "
                "or 3 (RGB)."
            )
    return table


def track(
    items: Iterable[T], total: int, description: str, enabled: bool = True
) -> Iterator[T]:
    """Yield `items`, with a progress bar once the work turns out to be long."""
    bar = task = None
    start = time.monotonic()
    try:
        for done, item in enumerate(items, start=1):
            yield item
            if bar is not None:
                bar.update(task, completed=done)
            elif enabled and time.monotonic() - start > _PROGRESS_AFTER:
                from rich.progress import Progress

                bar = Progress(transient=True)
                bar.start()
                task = bar.add_task(description, total=total, completed=done)
    finally:
        if bar is not None:
            bar.stop()
