"""Pairing: which images meet in one row of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drifa_keras.data._checks import channels_of, check_count, check_seed
from drifa_keras.data.source import Source


@dataclass(frozen=True, eq=False)
class Pairing:
    """One or more sources whose images are shown to a model together.

    Row `i` of an index array names one case of each source, in the order of
    `sources`. Make it with `pair` or `align`.
    """

    sources: tuple[Source, ...]
    modalities: dict[str, int]
    """Modality name to number of channels."""

    def __len__(self) -> int:
        return max(len(source) for source in self.sources)

    @property
    def tasks(self) -> dict[str, int]:
        """Task name to number of classes."""
        return {task: len(names) for task, names in self.class_names.items()}

    @property
    def class_names(self) -> dict[str, tuple[str, ...]]:
        """Task name to the names of its classes."""
        return {
            task: names
            for source in self.sources
            for task, names in source.class_names.items()
        }

    @property
    def maps(self) -> tuple[str, ...]:
        """The tasks whose targets are label maps."""
        return tuple(task for source in self.sources for task in source.maps)

    @property
    def regions(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Task with label maps to its regions: name to the classes that make it up."""
        return {
            task: regions
            for source in self.sources
            for task, regions in source.regions.items()
        }

    def shapes(self, image_size: tuple[int, int]) -> dict[str, tuple[int, int, int]]:
        """Modality name to (height, width, channels) at the given image size."""
        return {name: (*image_size, count) for name, count in self.modalities.items()}

    def source_of_modality(self, name: str) -> int:
        """Position in `sources` of the one that has this modality."""
        return self._position(name, "modalities")

    def source_of_task(self, name: str) -> int:
        """Position in `sources` of the one that has this task."""
        return self._position(name, "targets")

    def _position(self, name: str, what: str) -> int:
        for position, source in enumerate(self.sources):
            if name in getattr(source, what):
                return position
        known = sorted(self.modalities if what == "modalities" else self.tasks)
        raise ValueError(f"No source has {name!r}: expected one of {known}.")

    def take(self, indices: Sequence[np.ndarray | Sequence[int]]) -> Pairing:
        """The pairing of parts of its sources, e.g. of one side of their splits.

        Args:
            indices: one index array a source.
        """
        if len(indices) != len(self.sources):
            raise ValueError(
                f"take got {len(indices)} index arrays for {len(self.sources)} "
                "sources: expected one a source, in their order."
            )
        parts = [s.take(i) for s, i in zip(self.sources, indices, strict=True)]
        return _pairing(parts, self.modalities)

    def epoch(self, seed: int, epoch: int, size: int | None = None) -> np.ndarray:
        """The pairs of one training epoch, drawn afresh for each.

        Every source goes through shuffled cycles of all its images, so that none
        is shown twice before all have been shown once. The draw depends on
        `(seed, epoch)` alone.

        Args:
            seed: run seed.
            epoch: number of the epoch.
            size: how many pairs; the length of the longest source by default.

        Returns:
            int64 array (size, number of sources).
        """
        seed, epoch = check_seed(seed), check_seed(epoch, "epoch")
        size = len(self) if size is None else check_count(size, "size")
        return np.stack(
            [
                _cycles(len(source), size, np.random.default_rng([seed, epoch, i]))
                for i, source in enumerate(self.sources)
            ],
            axis=1,
        )

    def once(self, seed: int = 0, draw: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Pairs in which every image of every source counts exactly once.

        The longest source keeps its order; partners come from `(seed, draw)`.

        Returns:
            indices: int64 (length of the longest source, number of sources).
            counted: bool of the same shape; False where a shorter source is
                repeated only to keep the longest one company.
        """
        seed, draw = check_seed(seed), check_seed(draw, "draw")
        rows, columns, counts = len(self), [], []
        longest = next(i for i, s in enumerate(self.sources) if len(s) == rows)
        for i, source in enumerate(self.sources):
            n = len(source)
            if i == longest:
                columns.append(np.arange(rows))
                counts.append(np.ones(rows, bool))
                continue
            # The extra word keeps these draws apart from those of `epoch`.
            rng = np.random.default_rng([seed, draw, i, 1])
            order = rng.permutation(rows)
            columns.append(_cycles(n, rows, rng)[order])
            counts.append(order < n)
        return np.stack(columns, axis=1), np.stack(counts, axis=1)


def pair(
    sources: Sequence[Source], channels: dict[str, int] | int | None = None
) -> Pairing:
    """Join unrelated sources: each image meets a fresh random partner every epoch.

    Shorter sources are repeated until they are as long as the longest.

    Args:
        sources: at least one; their modality and task names must all differ.
        channels: 1 (grey) or 3 (RGB) for modalities that are still paths, for all
            or by name; 3 by default. Arrays have their own.
    """
    sources = list(sources) if not isinstance(sources, Source) else [sources]
    return _pairing(sources, channels)


def align(source: Source, channels: dict[str, int] | int | None = None) -> Pairing:
    """Keep the true pairs of one source: each row shows one case.

    Args:
        source: the source, usually with several modalities.
        channels: as for `pair`.
    """
    if not isinstance(source, Source):
        raise ValueError(
            f"align takes one Source, not {type(source).__name__}; use pair([...]) "
            "for several."
        )
    return _pairing([source], channels)


def _pairing(sources: Sequence[Source], channels) -> Pairing:
    if not sources:
        raise ValueError("pair got no source: expected at least one.")
    for what in ("modalities", "targets"):
        owner: dict[str, str] = {}
        for source in sources:
            for name in getattr(source, what):
                if name in owner:
                    kind = "modality" if what == "modalities" else "task"
                    raise ValueError(
                        f"The sources {owner[name]!r} and {source.name!r} both have "
                        f"the {kind} {name!r}: names must differ; pass another "
                        f"{kind}= to one reader."
                    )
                owner[name] = source.name
    for source in sources:
        if not len(source):
            raise ValueError(
                f"Source {source.name!r} has no cases: nothing to pair; check the "
                "split fractions."
            )
    own = {name: c for source in sources for name, c in source.channels.items()}
    asked = channels_of(channels, list(own))
    return Pairing(
        tuple(sources),
        {name: asked[name] if c is None else c for name, c in own.items()},
    )


def _cycles(n: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """`size` numbers below `n`: shuffled cycles one after another."""
    rounds = -(-size // n)
    order = np.concatenate([rng.permutation(n) for _ in range(rounds)])
    return order[:size].astype(np.int64)
