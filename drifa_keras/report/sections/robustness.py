"""Whether its answers hold out against changes made on purpose."""

from __future__ import annotations

from drifa_keras.report.contents import Contents
from drifa_keras.report.document import Absent, Part, Picture, Section, Table, Text
from drifa_keras.report.robustness import robustness_figures
from drifa_keras.report.sections._text import listed, measured, number, plural

# What should hold, and what is measured.
_CHECKS = {
    "steps": ("more steps of PGD do not raise the accuracy", "largest rise"),
    "eps": ("a larger change does not raise the accuracy", "largest rise"),
    "unbounded": ("changes of half the range of a pixel leave nothing", "accuracy"),
    "single step": ("FGSM is not stronger than PGD", "accuracy less that of PGD"),
    "gradient free": (
        "the Square attack is not stronger than PGD",
        "accuracy less that of PGD",
    ),
    "transfer": (
        "images made against another network are not stronger than PGD",
        "accuracy less that of PGD",
    ),
    "random noise": (
        "noise of the same size is not stronger than PGD",
        "accuracy less that of PGD",
    ),
    "zero gradients": (
        "at most one image in a hundred has no gradient",
        "share without one",
    ),
    "straight through": (
        "gradients that pass clips are not stronger",
        "accuracy less that of PGD",
    ),
    "frozen": ("no verdict: an attack that knows the draw", "accuracy"),
}


def robustness_section(contents: Contents) -> Section:
    """Accuracy under attack, the checks of the attacks, examples."""
    title = "Under attack"
    report, arrays = contents.robustness, contents.robustness_arrays
    if report is None or arrays is None:
        absent = Absent("Accuracy under attack", contents.command("attack"))
        return Section("robustness", title, [absent])
    figures = robustness_figures(report, arrays)
    blocks = [Text(_what(report, len(contents.members)))]
    failed = [check for check in report["checks"] if check["holds"] is False]
    if failed:
        names = listed(f"{check['check']} of {check['task']}" for check in failed)
        blocks.append(
            Text(
                f"Checks fail ({names}): attacks may fail for reasons of their own, "
                "and the accuracies be too high.",
                warning=True,
            )
        )
    if "adversarial_examples" in figures:
        blocks.append(
            Picture(
                figures["adversarial_examples"],
                "Images before an attack, what it changed, and after it.",
                "Each image, the change (grey is none), and the changed image. Cases "
                "whose answers an attack changes come first.",
                photographs=True,
            )
        )
    parts = [
        Part(task, list(_of_task(task, report, figures)))
        for task in contents.class_names
        if task in report["tasks"]
    ]
    return Section("robustness", title, blocks, parts)


def _what(report, members):
    trained = report["trained"]
    how = "clean images"
    if trained:
        how = (
            f"adversarial images (PGD, {trained['steps']} steps, eps "
            f"{trained['eps'] * 255:g}/255)"
        )
    text = (
        f"{plural(report['images'], 'test case')}; the network was trained on {how}. "
        "Attacks know the network, and change the images of a case by at most eps in "
        f"each pixel (of 0 to 255, before any rescaling); seed {report['seed']}. What "
        "survives all attacks counts."
    )
    if members > 1:
        text += f" Of the {members} members of the ensemble, the first is attacked."
    if report["random"]:
        text += (
            f" The network is random: an answer is the mean of {report['votes']} "
            f"draws, a gradient that of others, {listed(report['draws'])} of them."
        )
    return text


def _of_task(task, report, figures):
    found = report["tasks"][task]
    names = list(dict.fromkeys(_label(entry, report) for entry in found["attacks"]))
    cells = {(_label(e, report), e["eps"]): e["accuracy"] for e in found["attacks"]}
    sizes = report["eps"]
    rows = [["none", *[measured(found["clean"])] * len(sizes)]]
    rows += [[name, *(measured(cells[name, eps]) for eps in sizes)] for name in names]
    rows.append(["all", *(measured(entry["accuracy"]) for entry in found["union"])])
    if found.get("majority") is not None:  # runs of older versions lack it
        always = number(found["majority"])
        rows.append(["always the most frequent class", *[always] * len(sizes)])
    yield Table(
        f"{task}: accuracy under attack, with 95 % intervals",
        ["attack", *(f"eps {eps * 255:g}/255" for eps in sizes)],
        rows,
    )
    checks = [check for check in report["checks"] if check["task"] == task]
    if checks:
        yield Table(
            f"{task}: signs that attacks fail for the wrong reason, at eps "
            f"{report['check_at'] * 255:g}/255",
            ["what should hold", "measured", "value", "holds"],
            [_row(check) for check in checks],
        )
    captions = {
        "attacks": "Accuracy against the largest change of a pixel, with 95 % "
        "intervals.",
        "attack_steps": "Accuracy against the number of steps of PGD.",
        "attack_draws": "Accuracy against the draws behind a gradient: flat where more "
        "draws find no more.",
    }
    for name, caption in captions.items():
        if f"{name}_{task}" in figures:
            yield Picture(figures[f"{name}_{task}"], f"{task}: {caption}", caption)


def _row(check):
    should, what = _CHECKS[check["check"]]
    holds = {True: "yes", False: "no", None: "-"}[check["holds"]]
    return [f"{check['check']}: {should}", what, number(check["value"]), holds]


def _label(entry, report):
    """The name of an attack, with what it is aimed at where that is not all."""
    label = entry["attack"]
    if report["random"]:
        label += f", {plural(entry['draws'], 'draw')}"
    if entry["aim"] != "all":
        label += f", {entry['aim']} alone"
    if entry["changed"] != "all":
        label += f", only {entry['changed']} changed"
    return label
