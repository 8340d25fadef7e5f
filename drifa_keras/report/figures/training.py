"""How a training went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from drifa_keras.report.style import (
    GREY,
    HouseFigure,
    legend_below,
    line_styles,
    styled,
)

_NO_MEASURES = ("epoch", "learning_rate", "lr", "seconds_per_step")


@styled
def training_curves(
    history: Mapping[str, Sequence[float]],
    best_epoch: int | None = None,
    title: str | None = None,
) -> Figure:
    """Loss and metrics of each epoch: one panel a measure, one colour a task.

    Args:
        history: Name to values `(epochs,)`, as `keras.callbacks.History.history` or
            the columns of `history.csv`: `loss`, `<task>_accuracy`, `val_loss`. What
            follows the last underscore is the measure.
        best_epoch: Epoch to mark, counted from 1.
        title: Title.

    Returns:
        The figure.

    Raises:
        ValueError: If the history has no measure or no epoch.
    """
    panels = _panels(history)
    tasks = sorted({task for lines in panels.values() for task, _ in lines if task})
    colours = {"": GREY} | {
        task: line["color"]
        for task, line in zip(tasks, line_styles(len(tasks)), strict=True)
    }
    figure = HouseFigure(figsize=(max(5.5, 4.2 * len(panels)), 3.2))
    for ax, (measure, lines) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for (task, part), values in lines.items():
            epochs = np.arange(1, len(values) + 1)
            ax.plot(
                epochs,
                values,
                color=colours[task],
                linestyle="-" if part == "training" else "--",
                marker="o" if len(values) < 12 else None,
                markerfacecolor=colours[task] if part == "training" else "white",
            )
        if best_epoch is not None:
            ax.axvline(best_epoch, color=GREY, linewidth=1, linestyle=":")
        ax.set(title=measure, xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if len(epochs) == 1:
            ax.set_xlim(0.5, 1.5)
    _legend(figure, panels, colours, best_epoch)
    figure.suptitle(title)
    return figure


def _panels(history):
    """Measure to (task, part) to values; the task of the total is empty."""
    panels = {}
    for name, values in history.items():
        if name in _NO_MEASURES:
            continue
        part = "validation" if name.startswith("val_") else "training"
        task, _, measure = name.removeprefix("val_").rpartition("_")
        values = np.asarray(values, "float64")
        if len(values):
            panels.setdefault(measure, {})[task, part] = values
    if not panels:
        raise ValueError(
            "Expected a history with at least one epoch of a measure such as `loss`. "
            f"Received the columns {list(history)}."
        )
    for lines in panels.values():
        if len({task for task, _ in lines} - {""}) == 1:  # the total is that task's
            for part in ("training", "validation"):
                lines.pop(("", part), None)
    return dict(sorted(panels.items(), key=lambda panel: panel[0] != "loss"))


def _legend(figure, panels, colours, best_epoch):
    drawn = {key for lines in panels.values() for key in lines}
    tasks, parts = ({key[place] for key in drawn} for place in (0, 1))
    entries = [
        (task or "all tasks", Patch(color=colour))
        for task, colour in colours.items()
        if task in tasks and len(colours) > 1
    ]
    for part, line in (("training", "-"), ("validation", "--")):
        if part in parts:
            entries.append((part, Line2D([], [], color=GREY, linestyle=line)))
    if best_epoch is not None:
        line = Line2D([], [], color=GREY, linewidth=1, linestyle=":")
        entries.append(("best epoch", line))
    names, handles = zip(*entries, strict=True)
    legend_below(figure, handles, names)
