"""How the training went."""

from __future__ import annotations

import numpy as np

from drifa_keras.report.contents import Contents
from drifa_keras.report.document import Picture, Section, Text
from drifa_keras.report.figures import training_curves
from drifa_keras.report.sections._text import number, plural


def training_section(contents: Contents) -> Section:
    """Loss and accuracy of each epoch."""
    blocks = []
    for name, history in contents.histories.items():
        epochs = len(next(iter(history.values())))
        best = _best_epoch(history, contents.config.training.monitor)
        of_member = f" of {name}" if len(contents.members) > 1 else ""
        alt = f"Loss and accuracy{of_member} over {plural(epochs, 'epoch')}"
        caption = f"Training{of_member}."
        if best is not None:
            monitor = contents.config.training.monitor
            value = number(history[monitor][best - 1])
            caption += f" Epoch {best} was kept: its {monitor} of {value} is the best."
            alt += f"; epoch {best} was kept"
        blocks.append(Picture(training_curves(history, best), f"{alt}.", caption))
    if not blocks:
        blocks.append(Text("No epoch was finished: there is no history.csv."))
    return Section("training", "Training", blocks)


def _best_epoch(history, monitor):
    values = history.get(monitor)
    if values is None or np.isnan(values).all():
        return None
    best = np.nanargmin if "loss" in monitor else np.nanargmax
    return int(best(values)) + 1
