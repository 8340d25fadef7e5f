"""What the network can do on the test split."""

from __future__ import annotations

import numpy as np

from drifa_keras.report.contents import EVALUATE, Contents
from drifa_keras.report.document import Absent, Part, Picture, Section, Table, Text
from drifa_keras.report.figures import (
    confusion_matrix,
    dice_by_case,
    precision_recall_curves,
    roc_curves,
)
from drifa_keras.report.sections._text import (
    measured,
    metric_name,
    number,
    plural,
    share,
    spread,
)


def results_section(contents: Contents) -> Section:
    """Scores, confusion, ROC and precision-recall of each task."""
    title = "Results"
    if contents.metrics is None:
        command = contents.command(EVALUATE)
        return Section("results", title, [Absent("Scores on the test split", command)])
    blocks = []
    if "baselines" in contents.metrics:
        caption = "What any result has to beat"
        blocks.append(_table("baselines", caption, "{}", contents))
    else:
        command = contents.command(EVALUATE)
        blocks.append(Absent("Scores of trivial baselines", command))
    parts = [
        Part(task, _of_task(task, result, contents))
        for task, result in contents.metrics["tasks"].items()
    ]
    return Section("results", title, blocks, parts)


def partners_section(contents: Contents) -> Section:
    """How much an answer depends on the other images of its case."""
    title, metrics = "Partners and missing modalities", contents.metrics
    if metrics is None:
        command = contents.command(EVALUATE)
        return Section("partners", title, [Absent("Other partners and none", command)])
    drawn = {
        task: result
        for task, result in metrics["tasks"].items()
        if result.get("draws", 1) > 1 and "regions" not in result
    }
    blocks = [
        Text(
            "The images of a pair are unrelated, so each test image is scored with "
            "several partners, drawn at random. The less the scores differ, the less "
            "the network rests on the partner."
        )
        if drawn
        else Text("Each test image was scored once, with the images of its own case.")
    ]
    if drawn:
        names = ("accuracy", "f1", "auc")
        rows = [
            [
                task,
                str(result["draws"]),
                *(_spread(result["metrics"][name]) for name in names),
            ]
            for task, result in drawn.items()
        ]
        caption = "Mean and standard deviation over the draws of partners"
        header = ["task", "draws", *map(metric_name, names)]
        blocks.append(Table(caption, header, rows))
    if metrics.get("missing"):
        blocks.append(_table("missing", "Without a modality", "without {}", contents))
    elif "missing" not in metrics:
        command = contents.command(EVALUATE)
        blocks.append(Absent("Scores without each modality", command))
    return Section("partners", title, blocks)


def _spread(metric):
    if metric is None:
        return "-"
    return spread(metric["value"], metric["spread"], 4)


def _table(key, caption, row, contents):
    """Scores of other predictions for the same images, below those of the network."""
    tasks, others = contents.metrics["tasks"], contents.metrics[key]
    columns = [
        (task, name)
        for task, result in tasks.items()
        for name in (
            ("dice", "accuracy")
            if "regions" in result
            else ("accuracy", "balanced_accuracy")
        )
    ]
    rows = {"the network": tasks}
    rows |= {row.format(name.replace("_", " ")): of for name, of in others.items()}
    return Table(
        caption,
        ["", *(f"{task}, {metric_name(name)}" for task, name in columns)],
        [
            [
                first,
                *(
                    measured(results.get(task, {}).get("metrics", {}).get(name))
                    for task, name in columns
                ),
            ]
            for first, results in rows.items()
        ],
    )


def _of_task(task, result, contents):
    notes = [Text(note) for note in result["notes"]]
    if not result["images"]:
        return notes
    if "regions" in result:
        return [*notes, *_of_maps(task, result)]
    names, confusion = result["classes"], np.asarray(result["confusion"])
    blocks = [
        Text(
            f"{plural(result['images'], 'test image')} of "
            f"{plural(result['groups'], 'group')}."
        ),
        *notes,
        Table(
            f"{task}: means over classes, with 95 % intervals from resampled groups",
            ["metric", "value (interval)"],
            [
                [metric_name(name), measured(metric)]
                for name, metric in result["metrics"].items()
            ],
        ),
        Table(
            f"{task}: each class",
            ["class", "test images", "recall", "precision"],
            _per_class(names, confusion),
        ),
        Picture(
            confusion_matrix(confusion, names),
            f"Confusion matrix of {task}: {np.trace(confusion)} of {confusion.sum()} "
            "test images are on the diagonal.",
            f"{task}: which class is taken for which. Numbers are images and shares of "
            "the true class.",
        ),
    ]
    if contents.predictions is None:
        command = contents.command(EVALUATE)
        return [*blocks, Absent("ROC and precision-recall curves", command)]
    y_true = contents.predictions[f"{task}.y_true"]
    probabilities = contents.predictions[f"{task}.probabilities"][0]
    auc, recall = result["metrics"]["auc"], result["metrics"]["recall"]
    return [
        *blocks,
        Picture(
            roc_curves(y_true, probabilities, names),
            f"ROC curves of {task}, one a class; the mean AUC is "
            f"{number(auc and auc['value'])}.",
            f"{task}: ROC, each class against the others. The dotted line is guessing.",
        ),
        Picture(
            precision_recall_curves(y_true, probabilities, names),
            f"Precision-recall curves of {task}, one a class; the mean recall of the "
            f"predictions is {number(recall['value'])}.",
            f"{task}: precision and recall, each class against the others. AP is the "
            "average precision; guessing would reach the share of the class.",
        ),
    ]


def _of_maps(task, result):
    """Scores of a task that classifies every pixel."""
    names, confusion = result["classes"], np.asarray(result["confusion"])
    regions = [
        f"{region} ({' + '.join(names[k] for k in classes)})"
        for region, classes in result["regions"].items()
    ]
    cases = result["cases"].values()
    return [
        Text(
            f"{plural(result['images'], 'test slice')} of "
            f"{plural(result['groups'], 'case')}. Regions: {', '.join(regions)}."
        ),
        Table(
            f"{task}: Dice over all voxels of a case, then over single slices, and "
            "scores of single pixels, with 95 % intervals from resampled cases",
            ["metric", "value (interval)"],
            [
                [metric_name(name), measured(metric)]
                for name, metric in result["metrics"].items()
            ],
        ),
        Table(
            f"{task}: each class",
            ["class", "test pixels", "recall", "precision"],
            _per_class(names, confusion),
        ),
        Picture(
            dice_by_case(
                {name: [case[name] for case in cases] for name in result["regions"]}
            ),
            f"The Dice of every test case of {task}, region by region.",
            f"{task}: each dot is a case; the bar holds the middle half of them, the "
            "circle is the median.",
        ),
    ]


def _per_class(names, confusion):
    true, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    hits = np.diag(confusion)
    return [
        [
            name,
            f"{true[k]:,}",
            share(hits[k] / true[k]) if true[k] else "-",
            share(hits[k] / predicted[k]) if predicted[k] else "-",
        ]
        for k, name in enumerate(names)
    ]
