"""Argument checks that the measures share."""

from __future__ import annotations

import numpy as np

# Softmax in half precision sums to one within 5e-4; anything further off is no
# distribution.
_SUM_TOLERANCE = 1e-3
# What `1 - p` may leave of zero.
_BELOW_ZERO = -1e-6


def check_passes(passes) -> np.ndarray:
    """Returns probabilities `(passes, n, ..., classes)`, or raises a ValueError."""
    passes = np.asarray(passes)
    if passes.ndim < 3 or passes.shape[0] < 1 or passes.shape[-1] < 2:
        raise ValueError(
            "Expected the probabilities of every pass, (passes, n, ..., classes), with "
            f"at least one pass and two classes. Received: shape {passes.shape}. Pass "
            "`probabilities[None]` for a single pass."
        )
    _check_distributions(passes)
    return passes


def check_probabilities(probabilities) -> np.ndarray:
    """Returns probabilities `(n, classes)` as float64, or raises a ValueError."""
    probabilities = np.asarray(probabilities)
    if probabilities.ndim != 2 or probabilities.shape[-1] < 2:
        raise ValueError(
            "Expected probabilities (n, classes) of at least two classes. Received: "
            f"shape {probabilities.shape}. Average over passes first, and flatten maps."
        )
    if not len(probabilities):
        raise ValueError("There is no sample. Received: probabilities (0, classes).")
    _check_distributions(probabilities)
    return probabilities.astype("float64")


def check_logits(logits) -> np.ndarray:
    """Returns logits `(n, classes)` as float64, or raises a ValueError."""
    logits = np.asarray(logits)
    if logits.ndim != 2 or logits.shape[-1] < 2 or not len(logits):
        raise ValueError(
            "Expected logits (n, classes) of at least one sample and two classes. "
            f"Received: shape {logits.shape}."
        )
    logits = logits.astype("float64")
    if not np.isfinite(logits).all():
        raise ValueError("Logits must be finite. Received: NaN or infinite values.")
    return logits


def check_labels(labels, n: int, classes: int, unknown: bool = False) -> np.ndarray:
    """Returns labels `(n,)` as integers, or raises a ValueError.

    -1 is refused unless `unknown`.
    """
    labels = np.asarray(labels)
    if labels.shape != (n,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"Expected integer labels of shape ({n},), one a sample. Received: shape "
            f"{labels.shape} of {labels.dtype}. Take the argmax of one-hot labels."
        )
    if n and (labels.min() < (-1 if unknown else 0) or labels.max() >= classes):
        raise ValueError(
            f"Labels must lie in 0..{classes - 1}. Received: "
            f"{labels.min()}..{labels.max()}. Leave unknown labels (-1) out."
        )
    return labels.astype("int64")


def check_labelled(labels, probabilities) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels `(n,)` and probabilities `(n, classes)`, both checked."""
    probabilities = check_probabilities(probabilities)
    return check_labels(labels, *probabilities.shape), probabilities


def check_values(values, name: str, n: int | None = None) -> np.ndarray:
    """Returns one finite float64 a sample, or raises a ValueError."""
    values = np.asarray(values)
    usable = values.dtype.kind in "biuf" and values.ndim == 1 and len(values) > 0
    if not usable or (n is not None and len(values) != n):
        raise ValueError(
            f"Expected one number a sample as `{name}`, of shape "
            f"({'n' if n is None else n},). Received: shape {values.shape} of "
            f"{values.dtype}."
        )
    values = values.astype("float64")
    if not np.isfinite(values).all():
        raise ValueError(
            f"`{name}` holds NaN or infinite values at row "
            f"{int(np.flatnonzero(~np.isfinite(values))[0])}."
        )
    return values


def check_groups(groups, n: int) -> np.ndarray | None:
    """Returns groups `(n,)`, or raises a ValueError."""
    if groups is None:
        return None
    groups = np.asarray(groups)
    if groups.shape != (n,):
        raise ValueError(
            f"Expected one group a sample, ({n},). Received: shape {groups.shape}."
        )
    return groups


def check_share(value, name: str) -> float:
    """Returns a number strictly between 0 and 1, or raises a ValueError."""
    number = isinstance(value, (int, float, np.number))
    if not number or not 0 < value < 1:
        raise ValueError(
            f"`{name}` must lie strictly between 0 and 1, such as 0.1. Received: "
            f"{value!r}."
        )
    return float(value)


def check_count(value, name: str) -> int:
    """Returns an integer of at least 1, or raises a ValueError."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < 1:
        raise ValueError(
            f"`{name}` must be an integer of at least 1. Received: {value!r}."
        )
    return int(value)


def _check_distributions(probabilities):
    if probabilities.dtype.kind not in "fiu":
        raise ValueError(
            f"Expected probabilities as floats. Received: {probabilities.dtype}."
        )
    sums = probabilities.sum(axis=-1, dtype="float64")
    # Comparisons with NaN are false, so that NaN ends up here too.
    wrong = ~(np.abs(sums - 1) <= _SUM_TOLERANCE)
    if wrong.any():
        row = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            "Probabilities must sum to one over the last axis. Received: a sum of "
            f"{sums[row]} at {row}. Pass softmax outputs, not logits."
        )
    if probabilities.min(initial=0) < _BELOW_ZERO:
        raise ValueError(
            f"Probabilities must not be negative. Received: {probabilities.min()}."
        )
