"""How numbers are written."""

from __future__ import annotations

import math

METRIC_NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "auc": "AUC",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ece": "ECE",
    "nll": "NLL",
    "brier": "Brier score",
    "aurc": "AURC",
}


def metric_name(name: str) -> str:
    """What a metric is called; `dice_WT` is "Dice, WT"."""
    for start, title in (("slice_dice", "Dice of slices"), ("dice", "Dice")):
        if name == start:
            return title
        if name.startswith(f"{start}_"):
            return f"{title}, {name.removeprefix(f'{start}_')}"
    return METRIC_NAMES[name]


def number(value: float | None, digits: int = 3) -> str:
    """A number, or a dash where it is undefined."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.{digits}f}"


def measured(metric: dict | None) -> str:
    """A metric with its 95 % interval."""
    if metric is None:
        return "-"
    text = number(metric["value"])
    if metric["interval"]:
        low, high = metric["interval"]
        # Spaces at which no line breaks.
        text += f" ({number(low)}\u00a0to\u00a0{number(high)})"
    return text


def spread(value: float, deviation: float, digits: int = 3) -> str:
    """A mean and its standard deviation."""
    return f"{number(value)}\u00a0±\u00a0{number(deviation, digits)}"


def share(value: float | None) -> str:
    """A share as a percentage."""
    return "-" if value is None or math.isnan(value) else f"{value:.1%}"


def listed(names) -> str:
    """Names in one line: "a, b and c"."""
    names = [str(name) for name in names]
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def plural(count: int, noun: str) -> str:
    """A count and its noun."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
