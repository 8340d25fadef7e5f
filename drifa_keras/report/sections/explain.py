"""What its answers rest on."""

from __future__ import annotations

from drifa_keras.report.contents import Contents
from drifa_keras.report.document import Absent, Part, Picture, Section, Table, Text
from drifa_keras.report.explain import KINDS, explain_figures
from drifa_keras.report.sections._text import number, share

_KINDS = {
    "right": "cases that it gets right",
    "wrong": "cases that it gets wrong",
    "uncertain": "cases that it is least certain of",
    "best": "the slices whose labels it gets best",
    "worst": "the slices whose labels it gets worst",
}


def explain_section(contents: Contents) -> Section:
    """Grad-CAM of right, wrong and uncertain cases, and t-SNE of the features."""
    title = "What it looks at"
    report, arrays = contents.explanations, contents.explanation_arrays
    if report is None or arrays is None:
        absent = Absent("Grad-CAM and t-SNE", contents.command("explain"))
        return Section("explanations", title, [absent])
    note = Text(
        "A map shows which part of an image raised the score of the predicted class, "
        "coloured from its own smallest to its own largest value; the box holds the "
        "region around the largest. It says where the network looked, not that it was "
        "right to."
    )
    figures = explain_figures(report, arrays)
    parts = [
        Part(task, [*_effects(task, report["tasks"][task]), *_pictures(task, figures)])
        for task in contents.class_names
        if task in report["tasks"]
    ]
    return Section("explanations", title, [note], parts)


def _effects(task, found):
    """What each modality changes."""
    if "effects" not in found:
        return
    yield Table(
        f"{task}: what each modality changes, mean over test images. Without its "
        "image the probability of the answer falls; with another image in its place "
        "it changes, and so may the answer",
        ["modality", "fall without it", "change with another", "answers changed"],
        [
            [name, number(of["blank"]), number(of["shuffled"]), share(of["flipped"])]
            for name, of in found["effects"].items()
        ],
    )


def _pictures(task, figures):
    for kind in KINDS:
        if f"maps_{kind}_{task}" in figures:
            yield Picture(
                figures[f"maps_{kind}_{task}"],
                f"Label maps of {task}: {_KINDS[kind]}.",
                f"{task}: {_KINDS[kind]}. The images, what is there, and the answer.",
                photographs=True,
            )
        if f"grad_cam_{kind}_{task}" in figures:
            yield Picture(
                figures[f"grad_cam_{kind}_{task}"],
                f"Grad-CAM maps of {task}: {_KINDS[kind]}.",
                f"{task}: {_KINDS[kind]}. Each image, the map over it, and the region.",
                photographs=True,
            )
    if f"tsne_{task}" in figures:
        yield Picture(
            figures[f"tsne_{task}"],
            f"t-SNE of the features of the test images of {task}, coloured by class "
            "and by error.",
            f"{task}: images that look alike to the network lie together. Distances "
            "between far groups mean nothing.",
        )
