"""The report as a file: whole, valid, self-contained, and safe to open."""

import base64
import io
import json
import re
import shlex
import subprocess
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.main import get_command

import drifa_cli
from drifa_keras.report import write_report
from drifa_keras.report.robustness import robustness_figures
from drifa_keras.runs import Run

NASTY = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "&amp; $x$")
VOID = {"meta", "link", "img"}


class Page(HTMLParser):
    """The elements and the text of a page, whose tags have to match."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes)
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.words))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def written(make_run):
    """The report of a run that has everything."""
    return write_report(make_run())


@pytest.fixture(scope="module")
def page(written):
    return Page(written.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def nasty(make_run):
    """The report of a run whose names are markup."""
    run = make_run(
        name=NASTY[1],
        class_names={"lesion": NASTY},
        leakage=[f"Group {NASTY[0]} is in two parts."],
        prefix=NASTY[1],
    )
    return write_report(run, run.folder / "other.html")


def test_report_lies_in_the_run_folder_and_is_small(written):
    assert written.name == "report.html"
    assert (written.parent / "config.yaml").is_file()
    assert 100_000 < written.stat().st_size < 5_000_000


@pytest.mark.parametrize("report", ["written", "nasty"])
def test_page_needs_no_network(report, request):
    page = Page(request.getfixturevalue(report).read_text(encoding="utf-8"))
    assert not {"script", "iframe", "object", "embed", "base", "form"} & {
        tag for tag, _ in page.elements
    }
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith(("#", "data:"))
        assert "srcset" not in attributes
    (policy,) = [
        meta["content"]
        for meta in page.all("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'")


def test_every_image_is_there_and_described(page):
    images = page.all("img")
    # Training; of 2 tasks 3 results, 5 of uncertainty, 3 Grad-CAM and t-SNE, and 3 of
    # attacks each; images under attack.
    assert len(images) == 1 + 2 * (3 + 5 + 4 + 3) + 1
    for image in images:
        assert len(image["alt"]) > 10
        start, data = image["src"].split(",")
        assert start == "data:image/webp;base64"
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as found:
            assert found.width == pytest.approx(2 * int(image["width"]), abs=2)
    alts = [image["alt"] for image in images]
    assert len(set(alts)) == len(alts)


def test_headings_are_in_order(page):
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_contents_lead_to_the_sections(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    links = [a["href"].removeprefix("#") for a in page.all("a")]
    assert set(links) <= set(ids)
    assert {s["id"] for s in page.all("section")} <= set(links)
    assert links[0] == "main"  # what the keyboard meets first


def test_page_has_what_browsers_and_readers_ask_for(page):
    assert page.all("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in (
        page.all("meta")
    )
    for tag in ("title", "main", "nav", "header", "footer"):
        assert len(page.all(tag)) == 1
    for head in page.all("th"):
        assert head["scope"] in {"col", "row"}
    for attributes in page.all("div"):
        assert ("tabindex" in attributes) == ("role" in attributes)


def test_page_is_valid_html(written, nasty):
    html5lib = pytest.importorskip("html5lib")
    for path in (written, nasty):
        html5lib.HTMLParser(strict=True).parse(path.read_text(encoding="utf-8"))


def test_names_come_out_as_text(nasty):
    html = nasty.read_text(encoding="utf-8")
    page = Page(html)
    for name in NASTY:
        assert name in page.text
    assert "<script" not in html.lower()
    assert "onerror" not in {key for _, attrs in page.elements for key in attrs}
    assert f"Report on {NASTY[1]}" in page.text


def test_report_says_what_it_is_for(page):
    assert page.text.count("Not for clinical use") >= 2
    assert "Intended use" in page.text


def test_figures_are_those_of_the_files(page, written):
    run = Run.open(written.parent)
    metrics = run.read_json("metrics.json")["tasks"]["cell"]["metrics"]
    for name in ("accuracy", "auc", "specificity"):
        value, (low, high) = metrics[name]["value"], metrics[name]["interval"]
        assert f"{value:.3f} ({low:.3f} to {high:.3f})" in page.text
    draws = metrics["accuracy"]
    assert f"{draws['value']:.3f} ± {draws['spread']:.4f}" in page.text
    table = run.read_json("uncertainty.json")["tasks"]["cell"]["table"]
    assert f"{table[-1]['nll']:.3f}" in page.text
    assert "Epoch 2 was kept: its val_loss of 0.300 is the best." in page.text
    for version in ("keras", "numpy"):
        assert version in page.text
    assert "without microscopy" in page.text
    assert "majority class" in page.text
    assert "microscopy0.4110.32225.0%" in page.text


def test_accuracy_under_attack(page):
    text = page.text
    assert "trained on adversarial images (PGD, 3 steps, eps 2/255)" in text
    assert "The network is random: an answer is the mean of 10 draws" in text
    assert "others, 1 and 5 of them" in text
    cell = text[text.index("cell: accuracy under attack") :]
    assert "attack eps 1/255 eps 4/255" in cell
    for name, value in (
        ("none", "0.625 (0.312 to 0.812)"),
        ("PGD-20, 1 draw", "0.600 (0.300 to 0.800)"),
        ("PGD-20, 5 draws, cell alone", "0.120 (0.060 to 0.560)"),
        ("all", "0.111 (0.056 to 0.555)"),
    ):
        assert f"{name}{value}{value}" in cell
    alts = [image["alt"] for image in page.all("img")]
    assert sum("Accuracy against the draws behind" in alt for alt in alts) == 2


def test_accuracy_under_attack_without_checks(make_run):
    run = make_run()
    report = run.read_json("robustness.json")
    for found in report["tasks"].values():
        del found["steps"]
    run.write_json("robustness.json", {**report, "check_at": None, "checks": []})
    with np.load(run.folder / "robustness.npz") as arrays:
        drawn = robustness_figures(report, dict(arrays))
    assert {name.removesuffix("_lesion") for name in drawn if "lesion" in name} == {
        "attacks",
        "attack_draws",
    }
    text = write_report(run).read_text(encoding="utf-8")
    assert "accuracy under attack" in text and "what should hold" not in text


def test_checks_of_attacks_that_fail_are_a_warning(page, make_run):
    warning = (
        "Checks fail (unbounded of lesion): attacks may fail for reasons of their own"
    )
    assert warning in page.text
    should = "unbounded: changes of half the range of a pixel leave nothing"
    assert page.text.count(f"{should}accuracy0.250no") == 1
    assert page.text.count(f"{should}accuracy0.250yes") == 1
    assert "frozen: no verdict: an attack that knows the drawaccuracy--" in page.text
    run = make_run(without=["metrics", "uncertainty", "explain", "history"])
    report = run.read_json("robustness.json")
    report["checks"] = [check for check in report["checks"] if check["holds"]]
    run.write_json("robustness.json", report | {"random": False, "trained": None})
    text = Page(write_report(run).read_text(encoding="utf-8")).text
    assert "Checks fail" not in text
    assert "trained on clean images" in text and "The network is random" not in text


def test_recall_and_precision_of_each_class(page, written):
    with np.load(written.parent / "predictions.npz") as arrays:
        y_true = arrays["cell.y_true"]
        y_pred = arrays["cell.probabilities"][0].argmax(axis=1)
    for k, name in enumerate("abcd"):
        right = np.sum((y_true == k) & (y_pred == k))
        recall, precision = right / np.sum(y_true == k), right / np.sum(y_pred == k)
        row = f"{name}{np.sum(y_true == k)}{recall:.1%}{precision:.1%}"
        assert row in page.text


def test_groups_are_counted_again(page, make_run):
    assert "slides4030" in page.text  # 40 patients of 3 images, all in one part
    run = make_run(without=["metrics", "uncertainty", "explain", "robustness"])
    splits = run.read_json("splits.json")
    splits["slides"]["groups"]["image/0000"] = splits["slides"]["groups"]["image/0119"]
    run.write_json("splits.json", splits)
    found = Page(write_report(run).read_text(encoding="utf-8")).text
    assert "slides4041" in found


def test_leakage_is_said_before_the_scores(nasty):
    text = Page(nasty.read_text(encoding="utf-8")).text
    warning = text.index(f"too high. Group {NASTY[0]} is in two parts.")
    assert warning < text.index("95 % interval")
    assert "was checked to be in one part alone" not in text


def test_audits_are_part_of_the_report(make_run):
    run = make_run(
        without=["metrics", "uncertainty", "explain", "robustness", "history"]
    )
    near = {"pairs": 7, "across_classes": 2, "across_groups": 3}
    audit = {
        "name": "a_set",
        "images": 500,
        "groups": 90,
        "exact": {"sets": 4, "across_classes": 0, "across_groups": 1},
        "near": {"confirmed": near},
        "conflicts": [],
        "splits": {
            "random": {
                "same_group": 0.418,
                "exact": 0.01,
                "confirmed": 0.02,
                "neighbour": None,
            }
        },
    }
    (run.folder / "audit-a_set").mkdir()
    (run.folder / "audit-a_set" / "audit.json").write_text(json.dumps(audit))
    text = Page(write_report(run).read_text(encoding="utf-8")).text
    assert "Audit of a_set" in text
    assert "7 pairs; 2 across classes, 3 across groups" in text
    assert "random41.8%1.0%2.0%-" in text


def test_bare_run_names_the_commands(make_run):
    run = make_run(
        without=["history", "splits", "metrics", "uncertainty", "explain", "robustness"]
    )
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert page.all("img") == []
    commands = ("evaluate --baselines --missing", "uncertainty", "explain", "attack")
    for command in commands:
        assert f"drifa {command} {run.folder}" in page.text


def test_commands_that_it_names_can_be_run(make_run):
    run = make_run(without=["metrics", "uncertainty", "explain", "robustness"])
    content = yaml.safe_load((run.folder / "config.yaml").read_text())
    content["data"]["sources"].append({"reader": "sipakmed"})
    (run.folder / "config.yaml").write_text(yaml.safe_dump(content))
    html = write_report(Run.open(run.folder)).read_text(encoding="utf-8")
    named = re.findall(r"<code>(drifa .+?)</code>", html)
    assert len(set(named)) == 5
    for line in named:
        command, arguments = get_command(drifa_cli.app), shlex.split(line)[1:]
        while hasattr(command, "commands"):
            command = command.commands[arguments.pop(0)]
        command.make_context(line, arguments)  # raises for what it does not know


def test_perfect_scores_are_no_promise(make_run):
    run = make_run(without=["uncertainty", "explain", "robustness", "history"])
    metrics = run.read_json("metrics.json")
    cell = metrics["tasks"]["cell"]
    cell["metrics"]["accuracy"] = {"value": 1.0, "spread": 0.0, "interval": [1.0, 1.0]}
    cell["groups"] = 59
    run.write_json("metrics.json", metrics)
    text = Page(write_report(run).read_text(encoding="utf-8")).text
    # 0.9505 ** 59 = 0.05.
    assert "cell: every test image is right" in text
    assert "fails on 5.0% of such groups would still be right on all 59" in text
    assert text.count("every test image is right") == 1


def test_calibration_of_plain_predictions(make_run):
    run = make_run(without=["uncertainty", "explain", "robustness"])
    page = Page(write_report(run).read_text(encoding="utf-8"))
    alts = [image["alt"] for image in page.all("img")]
    assert "Reliability diagram of cell." in alts
    assert f"drifa uncertainty {run.folder}" in page.text


def test_ensemble_shows_its_members(make_run):
    run = make_run(
        without=["metrics", "uncertainty", "explain", "robustness", "history"]
    )
    member = make_run(without=["metrics", "uncertainty", "explain", "robustness"])
    for number in range(2):
        subprocess.run(
            ["cp", "-r", member.folder, run.folder / f"member_{number}"], check=True
        )
    run.write_json("ensemble.json", {"members": ["member_0", "member_1"]})
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert "An ensemble of 2 x drifa_resnet18" in page.text
    alts = [image["alt"] for image in page.all("img")]
    assert alts == [
        f"Loss and accuracy of member_{k} over 3 epochs; epoch 2 was kept."
        for k in (0, 1)
    ]


def test_task_without_test_labels(make_run):
    run = make_run(without=["uncertainty", "explain", "robustness"])
    metrics = run.read_json("metrics.json")
    note = "No image of the test split has a label."
    metrics["tasks"]["cell"] = {"images": 0, "notes": [note]}
    run.write_json("metrics.json", metrics)
    with np.load(run.folder / "predictions.npz") as arrays:
        arrays = dict(arrays)
    arrays["cell.y_true"] = arrays["cell.y_true"][:0]
    arrays["cell.probabilities"] = arrays["cell.probabilities"][:, :0]
    np.savez(run.folder / "predictions.npz", **arrays)
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert note in page.text


def test_file_that_is_cut_off(make_run):
    run = make_run(without=["uncertainty", "explain", "robustness"])
    (run.folder / "metrics.json").write_text('{"tasks": ')
    with pytest.raises(ValueError, match=r"metrics\.json is not valid JSON"):
        write_report(run)


@pytest.mark.large
def test_many_tasks_stay_below_five_megabytes(make_run):
    names = tuple(f"class {k} with a rather long name" for k in range(8))
    run = make_run(class_names=dict.fromkeys(["a", "b", "c", "d"], names), size=128)
    assert write_report(run).stat().st_size < 5_000_000
