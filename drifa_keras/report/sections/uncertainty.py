"""Whether its probabilities mean what they say."""

from __future__ import annotations

from drifa_keras import uncertainty as measure
from drifa_keras.report.contents import Contents
from drifa_keras.report.document import Absent, Part, Picture, Section, Table, Text
from drifa_keras.report.figures import reliability_diagram, risk_coverage
from drifa_keras.report.sections._text import (
    METRIC_NAMES,
    measured,
    metric_name,
    number,
    share,
    spread,
)
from drifa_keras.report.uncertainty import uncertainty_figures

_TABLE = ("accuracy", "precision", "recall", "f1", "ece", "nll", "brier", "aurc")
_OF_MEASURES = {
    "right": "when right",
    "wrong": "when wrong",
    "auroc": "AUROC",
    "aurc": "AURC",
}
_PICTURES = {
    "reliability": (
        "Reliability diagram of {task}",
        "How often predictions of each confidence are right. On the dotted line they "
        "are right as often as they claim; below it the network is too sure of itself.",
    ),
    "risk_coverage": (
        "Risk-coverage curve of {task}",
        "Share of wrong answers if only the surest images are answered.",
    ),
    "entropy": (
        "Histogram of the predictive entropy of {task}, right and wrong predictions",
        "A network that knows when it is wrong puts the wrong ones on the right.",
    ),
    "most_certain": (
        "The test images of {task} that the network is most certain of",
        "The most certain images.",
    ),
    "least_certain": (
        "The test images of {task} that the network is least certain of",
        "The least certain images.",
    ),
}


def uncertainty_section(contents: Contents) -> Section:
    """Calibration, selective prediction, prediction sets."""
    blocks = []
    if contents.uncertainty is None or contents.uncertainty_arrays is None:
        blocks.append(
            Absent(
                "Monte-Carlo dropout, temperature scaling and prediction sets",
                contents.command("uncertainty"),
            )
        )
        parts = _without_dropout(contents)
    else:
        figures = uncertainty_figures(contents.uncertainty, contents.uncertainty_arrays)
        parts = [
            Part(task, _of_task(task, summary, figures))
            for task, summary in contents.uncertainty["tasks"].items()
        ]
    return Section("uncertainty", "Calibration and uncertainty", blocks, parts)


def _without_dropout(contents):
    """What the plain predictions tell."""
    if contents.predictions is None:
        return []
    parts = []
    for task in contents.class_names:
        y_true = contents.predictions[f"{task}.y_true"]
        if not len(y_true) or f"{task}.probabilities" not in contents.predictions:
            continue
        data = y_true, contents.predictions[f"{task}.probabilities"][0]
        figures = {
            f"reliability_{task}": reliability_diagram(
                {"predictions": measure.reliability_diagram(*data)}
            ),
            f"risk_coverage_{task}": risk_coverage(
                {"by confidence": measure.risk_coverage_curve(*data)}
            ),
        }
        parts.append(Part(task, _pictures(task, figures)))
    return parts


def _of_task(task, summary, figures):
    notes = [Text(note) for note in summary["notes"]]
    if not summary["images"]:
        return notes
    if "regions" in summary:
        return [*_of_maps(task, summary), *notes, *_pictures(task, figures)]
    selective = summary["selective"]
    blocks = [
        Table(
            f"{task}: {summary['images']:,} test images, with and without dropout "
            f"({summary['passes']} passes in all), before and after temperature "
            "scaling",
            ["dropout", "temperature", *(METRIC_NAMES[name] for name in _TABLE)],
            [
                [
                    "on" if row["uq"] else "off",
                    number(row["temperature"], 2),
                    *(number(row[name]) for name in _TABLE),
                ]
                for row in summary["table"]
            ],
        ),
        Table(
            f"{task}: uncertainty of right and of wrong predictions, and how well it "
            "finds the wrong ones",
            ["measure", *_OF_MEASURES.values()],
            [
                [
                    name.replace("_", " "),
                    *(
                        number(found[key])
                        for key in ("right", "wrong", "auroc", "aurc")
                    ),
                ]
                for name, found in summary["measures"].items()
            ],
        ),
        Text(
            f"Answers to the surest {share(selective['coverage'])} of the images are "
            f"wrong {share(selective['target_risk'])} of the time or less."
            if selective["coverage"]
            else f"However few of the surest images are answered, more than "
            f"{share(selective['target_risk'])} of the answers are wrong."
        ),
    ]
    if summary["conformal"]:
        promised = share(1 - summary["conformal"]["alpha"])
        blocks.append(
            Table(
                f"{task}: prediction sets that promise to hold the true class "
                f"{promised} of the time",
                ["method", "coverage", "classes in a set", "empty sets"],
                [
                    [
                        name.upper(),
                        spread(found["coverage"], found["spread"]),
                        number(found["set_size"], 2),
                        share(found["empty"]),
                    ]
                    for name, found in summary["conformal"]["methods"].items()
                ],
            )
        )
    return [*blocks, *notes, *_pictures(task, figures)]


def _of_maps(task, summary):
    """What dropout adds where every pixel is classified."""
    rows = summary["table"]
    yield Table(
        f"{task}: every pixel of {summary['images']:,} test slices, without and with "
        f"dropout ({summary['passes']} passes)",
        ["", *("with dropout" if row["uq"] else "without" for row in rows)],
        [
            *(
                [metric_name(name), *(measured(row["metrics"][name]) for row in rows)]
                for name in rows[0]["metrics"]
            ),
            *(
                [
                    f"{METRIC_NAMES[name]} of pixels",
                    *(number(row[name]) for row in rows),
                ]
                for name in ("ece", "nll", "brier")
            ),
        ],
    )
    if summary["auroc"] is not None:
        yield Text(
            "The entropy of a pixel finds the wrong ones with an AUROC of "
            f"{number(summary['auroc'])}."
        )
    if summary["slices"] is not None:
        yield Text(
            "The mean entropy of a slice and its Dice have a rank correlation of "
            f"{number(summary['slices'], 2)}."
        )


def _pictures(task, figures):
    return [
        Picture(
            figures[f"{name}_{task}"],
            alt.format(task=task) + ".",
            f"{task}: {caption[0].lower()}{caption[1:]}",
            photographs=name.endswith("_certain"),
        )
        for name, (alt, caption) in _PICTURES.items()
        if f"{name}_{task}" in figures
    ]
