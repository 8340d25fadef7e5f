"""Whether the class can be told from how the file was made."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from drifa_keras.data.leakage.fingerprints import Fingerprints

_ROWS = 12


@dataclass(frozen=True)
class Confounds:
    """Association of image size and mode with the class.

    Args:
        size_v: Cramér's V of image size and class, corrected for chance: 0 for
            none, 1 where the size gives the class away.
        mode_v: the same for the mode ("RGB", "L", ...).
        accuracy: of guessing the commonest class of a size and mode, learnt on the
            other folds of a random cross-validation.
        balanced: mean recall over the classes of that guess.
        majority: share of the commonest class, what guessing without looking gets.
        sizes: how many different sizes there are.
        modes: how many different modes there are.
        table: the commonest combinations: size, mode and the images of each class.
    """

    size_v: float
    mode_v: float
    accuracy: float
    balanced: float
    majority: float
    sizes: int
    modes: int
    table: tuple[dict, ...]

    def to_dict(self) -> dict:
        """Everything, as JSON can hold it."""
        return {**asdict(self), "table": [dict(row) for row in self.table]}


def confounds(
    fingerprints: Fingerprints,
    labels: np.ndarray,
    class_names: tuple[str, ...],
    fold: np.ndarray,
) -> Confounds:
    """Measure them on the rows with a fold of 0 or more."""
    rows = np.flatnonzero(fold >= 0)
    labels, fold = labels[rows], fold[rows]
    size, mode = fingerprints.size[rows], fingerprints.mode[rows]
    sizes, size_codes = np.unique(size, axis=0, return_inverse=True)
    modes, mode_codes = np.unique(mode, return_inverse=True)
    both = size_codes.reshape(-1) * len(modes) + mode_codes
    values, codes, counts = np.unique(both, return_inverse=True, return_counts=True)
    cells = _cross_table(codes, labels, len(values), len(class_names))
    guess = _majority_rule(codes, labels, fold, len(values), len(class_names))
    right = guess == labels
    table = []
    for row in np.argsort(-counts, kind="stable")[:_ROWS]:
        width, height = sizes[values[row] // len(modes)].tolist()
        by_class = dict(zip(class_names, cells[row].tolist(), strict=True))
        name = str(modes[values[row] % len(modes)])
        table.append({"size": f"{width}x{height}", "mode": name, "images": by_class})
    present = np.unique(labels)
    return Confounds(
        size_v=cramers_v(size_codes, labels),
        mode_v=cramers_v(mode_codes, labels),
        accuracy=float(right.mean()),
        balanced=float(np.mean([right[labels == label].mean() for label in present])),
        majority=float(np.bincount(labels).max() / len(labels)),
        sizes=len(sizes),
        modes=len(modes),
        table=tuple(table),
    )


def cramers_v(first: np.ndarray, second: np.ndarray) -> float:
    """Cramér's V with the bias correction of Bergsma (2013).

    Without it many rare values, each of its own size, look like an association.
    """
    first = np.unique(first, return_inverse=True)[1].reshape(-1)
    second = np.unique(second, return_inverse=True)[1].reshape(-1)
    n, r, c = len(first), first.max(initial=0) + 1, second.max(initial=0) + 1
    if n < 2 or r < 2 or c < 2:
        return 0.0
    observed = _cross_table(first, second, r, c)
    expected = observed.sum(1, keepdims=True) * observed.sum(0, keepdims=True) / n
    phi2 = ((observed - expected) ** 2 / expected).sum() / n
    phi2 = max(0.0, phi2 - (r - 1) * (c - 1) / (n - 1))
    smaller = min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1
    return float(min(1.0, np.sqrt(phi2 / smaller))) if smaller > 0 else 0.0


def _cross_table(rows, columns, height: int, width: int) -> np.ndarray:
    flat = np.bincount(rows * width + columns, minlength=height * width)
    return flat.reshape(height, width)


def _majority_rule(codes, labels, fold, values: int, classes: int) -> np.ndarray:
    """(n,) the commonest class of the same code in the other folds."""
    guess = np.zeros(len(labels), np.int64)
    everything = _cross_table(codes, labels, values, classes)
    for number in np.unique(fold):
        mine = fold == number
        rest = everything - _cross_table(codes[mine], labels[mine], values, classes)
        # A size that no other fold has tells nothing: guess the commonest class.
        rule = np.where(rest.sum(1) > 0, rest.argmax(1), rest.sum(0).argmax())
        guess[mine] = rule[codes[mine]]
    return guess
