"""What it is, what came out, and what it is for."""

from __future__ import annotations

import json

from drifa_keras.data import DATASETS
from drifa_keras.report.contents import EVALUATE, Contents
from drifa_keras.report.document import Absent, Facts, Part, Section, Table, Text
from drifa_keras.report.sections._text import listed, measured, metric_name, plural

_HEADLINE = ("accuracy", "balanced_accuracy", "f1", "auc")
_HEADLINE_OF_MAPS = ("dice", "slice_dice", "sensitivity", "specificity")
_FEW = 30


def summary_section(contents: Contents) -> Section:
    """The sentence and the table that everyone reads."""
    config = contents.config
    sources = [entry.reader for entry in config.data.sources]
    blocks = [
        Text(
            f"{_network(contents)} trained on {listed(sources)} for "
            f"{plural(config.training.epochs, 'epoch')}, to tell "
            f"{listed(_tasks(contents))}."
        )
    ]
    for leak in contents.run.leakage:
        blocks.append(Text(f"The figures below are too high. {leak}", warning=True))
    if contents.metrics is None:
        blocks.append(Absent("Scores on the test split", contents.command(EVALUATE)))
    else:
        tasks = contents.metrics["tasks"]
        maps = {task for task, result in tasks.items() if "regions" in result}
        for names, of_kind in (
            (_HEADLINE, [task for task in tasks if task not in maps]),
            (_HEADLINE_OF_MAPS, [task for task in tasks if task in maps]),
        ):
            rows = [
                [task, f"{tasks[task]['images']:,}"]
                + [measured(tasks[task].get("metrics", {}).get(n)) for n in names]
                for task in of_kind
            ]
            if rows:
                caption = "Test split, each image once (95 % interval)"
                header = ["task", "images", *map(metric_name, names)]
                blocks.append(Table(caption, header, rows))
    return Section("summary", "Summary", blocks)


def card_section(contents: Contents) -> Section:
    """What the network is for, what not, and what it has learnt from."""
    readers = [entry.reader for entry in contents.config.data.sources]
    known = [DATASETS[name] for name in readers if name in DATASETS]
    data = [Facts([(d.title, f"{d.licence}. {d.citation}") for d in known])]
    if "phantoms" in readers:
        data.append(
            Text(
                "Phantoms are images that the package makes itself. Scores on them "
                "show that the software works; of medical images they say nothing."
            )
        )
    return Section(
        "model-card",
        "Model card",
        [Text("Not for clinical use.", warning=True)],
        [
            Part(
                "Intended use",
                [
                    Text(
                        "Research on multimodal, multi-task networks: to compare "
                        "methods, to study uncertainty and robustness, to teach."
                    ),
                    Text(
                        "It must not be used to diagnose, to triage or to treat, nor "
                        "to decide anything about a person. It is no medical device; "
                        "nobody has tested it on patients."
                    ),
                ],
            ),
            Part("Training data", [block for block in data if block != Facts([])]),
            Part("Limits", [Text(limit) for limit in _limits(contents)]),
        ],
    )


def _limits(contents):
    yield (
        "The test images come from the same collections as the training images. "
        "Other devices, hospitals and people may give far lower scores."
    )
    if len(contents.splits or ()) > 1:
        yield (
            "The images of a pair were joined at random: they show different people, "
            "so that one says nothing of the other. Whatever a second image adds is no "
            "medical information."
        )
    if contents.metrics is None:
        return
    for task, result in contents.metrics["tasks"].items():
        accuracy = result.get("metrics", {}).get("accuracy")
        if accuracy and accuracy["value"] == 1:
            # The share with which no failure is seen 5 % of the time.
            unseen = 1 - 0.05 ** (1 / result["groups"])
            yield (
                f"{task}: every test image is right, so that intervals have no width. "
                f"A network that fails on {unseen:.1%} of such groups would still be "
                f"right on all {result['groups']:,} one time in twenty."
            )
        sizes = [sum(row) for row in result.get("confusion", [])]
        few = [
            f"{name} ({size})"
            for name, size in zip(contents.class_names[task], sizes, strict=False)
            if size < _FEW
        ]
        if few:
            yield (
                f"{task}: fewer than {_FEW} test images of {listed(few)}. Scores of "
                "such classes are little more than a guess."
            )


def setup_section(contents: Contents) -> Section:
    """What was set, with seeds and versions."""
    config, resolved = contents.config, contents.resolved
    training, data = config.training, config.data
    height, width = data.size
    network = [("preset", config.model.preset)]
    network += [(name, _value(v)) for name, v in config.model.arguments.items()]
    if len(contents.members) > 1:
        network.append(("members of the ensemble", str(len(contents.members))))
    recipe = [
        (name.replace("_", " "), _value(value))
        for name, value in training.model_dump(mode="json").items()
        if value is not None
    ]
    augment = {
        name: value
        for name, value in data.augment.model_dump(mode="json").items()
        if value
    }
    seeds = [
        ("seed of weights, order and augmentation", _seeds(contents)),
        ("seed of the split", str(data.split_seed)),
    ]
    machine = [
        ("backend", resolved.get("backend", "-")),
        ("machine", resolved.get("machine", "-")),
        *resolved.get("versions", {}).items(),
    ]
    return Section(
        "set-up",
        "What was trained",
        [],
        [
            Part("Network", [Facts(network)]),
            Part(
                "Images",
                [
                    Facts(
                        [
                            ("size", f"{height} x {width} pixels"),
                            ("augmentation of training images", _value(augment)),
                        ]
                    )
                ],
            ),
            Part("Recipe", [Facts(recipe)]),
            Part("Seeds", [Facts(seeds)]),
            Part("Software and machine", [Facts(machine)]),
        ],
    )


def _network(contents):
    name = contents.config.model.preset
    count = len(contents.members)
    return f"An ensemble of {count} x {name}" if count > 1 else name


def _tasks(contents):
    return [
        f"{task} ({len(names)} classes)" for task, names in contents.class_names.items()
    ]


def _seeds(contents):
    return listed(run.config.seed for run in contents.members)


def _value(value):
    """A setting as text."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {_value(v)}" for k, v in value.items()) or "none"
    return value if isinstance(value, str) else json.dumps(value)
