"""Pairs of rows, collected without letting a pathological folder fill the memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

# 24 MB of pairs; a folder of look-alikes has n^2/2 of them.
_MOST_PAIRS = 2_000_000


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of rows, `first < second`, in rising order.

    Args:
        first: (k,) rows.
        second: (k,) rows.
        score: (k,) similarity, at most 1.
        total: pairs found. More than `k` where there were too many to keep: then
            the best pairs that hold the clusters together were kept.
    """

    first: np.ndarray
    second: np.ndarray
    score: np.ndarray
    total: int

    def __len__(self) -> int:
        return len(self.first)

    @property
    def complete(self) -> bool:
        """Whether every pair found was kept."""
        return self.total == len(self)

    @property
    def images(self) -> int:
        """How many rows are in at least one pair."""
        return len(np.union1d(self.first, self.second))

    def where(self, keep: np.ndarray) -> Pairs:
        """The pairs for which `keep` is true."""
        return Pairs(
            self.first[keep], self.second[keep], self.score[keep], int(keep.sum())
        )


class Collector:
    """Takes pairs in portions and gives them back as one `Pairs`."""

    def __init__(self, rows: int, most: int = _MOST_PAIRS):
        self.rows, self.most, self.total, self.kept = rows, most, 0, 0
        self.portions: list[tuple[np.ndarray, ...]] = []

    def add(self, first: np.ndarray, second: np.ndarray, score: np.ndarray) -> None:
        """Add pairs that were not added before, in any order."""
        if not len(first):
            return
        low, high = np.minimum(first, second), np.maximum(first, second)
        portion = (low.astype(np.int32), high.astype(np.int32), score.astype("f4"))
        self.portions.append(portion)
        self.total += len(low)
        self.kept += len(low)
        if self.kept > self.most:
            self._thin()

    def pairs(self) -> Pairs:
        """All pairs, sorted."""
        first, second, score = self._joined()
        order = np.lexsort((second, first))
        return Pairs(first[order], second[order], score[order], self.total)

    def _joined(self) -> tuple[np.ndarray, ...]:
        if not self.portions:
            return np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, "f4")
        return tuple(
            np.concatenate(column) for column in zip(*self.portions, strict=True)
        )

    def _thin(self) -> None:
        """Keep a spanning forest of the best pairs: the same clusters, fewer pairs."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import minimum_spanning_tree

        first, second, score = self._joined()
        cost = (2.0 - score.astype(np.float64), (first, second))  # 0 would mean no edge
        tree = minimum_spanning_tree(
            coo_array(cost, shape=(self.rows, self.rows)).tocsr()
        ).tocoo()
        self.portions = [
            (
                tree.row.astype(np.int32),
                tree.col.astype(np.int32),
                (2.0 - tree.data).astype("f4"),
            )
        ]
        self.kept = tree.nnz


def components(rows: int, edges: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """(rows,) number of the connected component, in order of first appearance."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = list(edges)
    first = np.concatenate([np.zeros(0, np.int64), *(a for a, _ in edges)])
    second = np.concatenate([np.zeros(0, np.int64), *(b for _, b in edges)])
    graph = coo_array((np.ones(len(first), np.int8), (first, second)), (rows, rows))
    labels = connected_components(graph, directed=False)[1]
    _, where, number = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(where), np.int64)
    rank[np.argsort(where)] = np.arange(len(where))
    return rank[number.reshape(-1)]


def chain(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges that join the rows of equal, non-negative code into one component."""
    rows = np.flatnonzero(codes >= 0)
    rows = rows[np.argsort(codes[rows], kind="stable")]
    same = codes[rows][1:] == codes[rows][:-1]
    return rows[:-1][same], rows[1:][same]
