"""The figures of what `drifa attack` wrote into a run folder."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from drifa_keras.report import figures


def robustness_figures(
    report: Mapping, arrays: Mapping[str, np.ndarray]
) -> dict[str, Figure]:
    """Draws how the accuracy of a run falls under attack.

    Args:
        report: What `robustness.json` holds.
        arrays: What `robustness.npz` holds.

    Returns:
        Dict to figures of, for each task, `attacks_<task>` (accuracy against `eps`),
        `attack_steps_<task>` (against the steps of PGD), for a random network
        `attack_draws_<task>` (against the draws behind a gradient), and of
        `adversarial_examples` where there are some.
    """
    drawn = {}
    ticks = {0.0: "0", **{eps: f"{eps * 255:g}/255" for eps in report["eps"]}}
    for task, found in report["tasks"].items():
        if not found["images"]:
            continue
        joint = [
            entry
            for entry in found["attacks"]
            if entry["aim"] == entry["changed"] == "all"
        ]
        names = list(dict.fromkeys(entry["attack"] for entry in joint))
        draws = {
            name: sorted({e["draws"] for e in joint if e["attack"] == name})
            for name in names
        }
        start = (0.0, found["clean"])
        curves = {
            name: [start, *_points(joint, "eps", attack=name, draws=draws[name][-1])]
            for name in names
        }
        curves["all attacks"] = [start, *_points(found["union"], "eps")]
        drawn[f"attacks_{task}"] = figures.accuracy_curves(
            _arrays(curves), "largest change of a pixel", ticks, title=task
        )
        if "steps" in found:
            steps = _points(found["steps"], "steps")
            drawn[f"attack_steps_{task}"] = figures.accuracy_curves(
                _arrays({f"PGD, eps {report['check_at'] * 255:g}/255": steps}),
                "steps",
                {count: str(count) for count, _ in steps},
                title=task,
            )
        largest = report["eps"][-1]
        plateaus = {
            f"{name}, eps {ticks[largest]}": _points(
                joint, "draws", attack=name, eps=largest
            )
            for name in names
            if len(draws[name]) > 1
        }
        if plateaus:
            drawn[f"attack_draws_{task}"] = figures.accuracy_curves(
                _arrays(plateaus),
                "draws behind a gradient",
                {count: str(count) for count in report["draws"]},
                title=task,
            )
    clean, attacked = (
        {
            name.removeprefix(start): array
            for name, array in arrays.items()
            if name.startswith(start)
        }
        for start in ("image.clean.", "image.attacked.")
    )
    if clean:
        drawn["adversarial_examples"] = figures.adversarial_examples(
            clean, attacked, float(arrays["eps"]), _captions(report, arrays)
        )
    return drawn


def _points(entries, strength, **wanted):
    """Pairs of a strength and an accuracy, of the entries that are as wanted."""
    return [
        (entry[strength], entry["accuracy"])
        for entry in entries
        if all(entry[name] == value for name, value in wanted.items())
    ]


def _arrays(curves):
    return {
        label: np.array([[x, a["value"], *a["interval"]] for x, a in points])
        for label, points in curves.items()
    }


def _captions(report, arrays):
    """What each example was taken for, before and after."""
    captions = []
    for case in range(len(arrays[f"{next(iter(report['tasks']))}.clean"])):
        parts = []
        for task, found in report["tasks"].items():
            before, after = (
                found["classes"][arrays[f"{task}.{which}"][case]]
                for which in ("clean", "attacked")
            )
            change = f"becomes {after}" if before != after else "stays"
            parts.append(f"{task}: {before} {change}")
        captions.append("; ".join(parts))
    return captions
