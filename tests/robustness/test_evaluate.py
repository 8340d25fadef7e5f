"""Accuracy under attack, its intervals, and the checks for masked gradients."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from drifa_keras.layers import AttentionNoise
from drifa_keras.robustness import (
    APGD,
    FGSM,
    FULL,
    LIGHT,
    PGD,
    Attack,
    RandomNoise,
    Square,
    evaluate,
)
from harness_robustness import Linear, pixels

L = keras.layers

SIZES = (1 / 255, 2 / 255, 4 / 255)
CHECKS = {
    "steps",
    "eps",
    "unbounded",
    "single step",
    "gradient free",
    "random noise",
    "zero gradients",
}


def wilson(right, n):
    """Wilson's interval at 95 %: Wilson 1927, as the roots of a quadratic in p.

    (right / n - p)^2 = z^2 p (1 - p) / n
    """
    z2, share = 1.959963984540054**2, right / n
    return np.sort(np.roots([1 + z2 / n, -2 * share - z2 / n, share**2]))


def union_of(report, task="t"):
    return [row["accuracy"]["value"] for row in report["tasks"][task]["union"]]


def verdicts(report, task="t"):
    return {
        check["check"]: check for check in report["checks"] if check["task"] == task
    }


class Kept(dict):
    """A mapping that counts what is put in."""

    puts = 0

    def __setitem__(self, key, value):
        self.puts += 1
        super().__setitem__(key, value)


@pytest.fixture(scope="module")
def samples(two_class):
    """Images, labels of which 90 % are right, and some that are unknown."""
    x = pixels(60)
    y = two_class.labels(x, right=0.9)["t"]
    clean = two_class.logits(x)["t"].argmax(axis=1) == y
    assert 0.8 < clean.mean() < 1
    return x, y, clean


@pytest.fixture(scope="module")
def report(two_class, samples):
    x, y, _ = samples
    return evaluate(two_class.model, x, y, SIZES, batch_size=60)


# -- What is counted -------------------------------------------------------------------


def test_accuracy_is_that_of_the_worst_case(two_class, samples, report):
    x, y, clean = samples
    task = report["tasks"]["t"]
    assert task["images"] == 60
    assert task["clean"]["value"] == pytest.approx(clean.mean())
    rows = {(row["attack"], row["eps"]): row for row in task["attacks"]}
    assert set(rows) == {(name, eps) for name in LIGHT for eps in SIZES}
    robust = {}
    for eps in SIZES:
        worst = two_class.worst_margin(x, {"t": y}, "t", eps * 255)
        robust[eps] = np.mean(worst > 0)
        for name in ("PGD-20", "APGD-CE-100"):
            found = rows[name, eps]["accuracy"]["value"]
            assert found == pytest.approx(robust[eps]), (name, eps)
        assert rows["Square-500", eps]["accuracy"]["value"] >= robust[eps]
    assert union_of(report) == pytest.approx(list(robust.values()))
    assert np.all(np.diff([clean.mean(), *robust.values()]) < 0)
    for row in task["attacks"]:
        assert (row["aim"], row["changed"], row["draws"]) == ("all", "all", 1)


def test_intervals_are_wilsons(report):
    task = report["tasks"]["t"]
    cells = [task["clean"], *(row["accuracy"] for row in task["attacks"])]
    cells += [row["accuracy"] for row in task["union"]]
    assert len({cell["value"] for cell in cells}) > 3
    for cell in cells:
        wanted = wilson(cell["value"] * 60, 60)
        np.testing.assert_allclose(cell["interval"], wanted, atol=1e-6)


def test_checks_hold_of_an_honest_classifier(report):
    found = verdicts(report)
    assert set(found) == CHECKS
    for name, check in found.items():
        assert check["holds"] is True, name
    steps = [row["steps"] for row in report["tasks"]["t"]["steps"]]
    assert steps == [1, 2, 5, 10, 20, 50]


def test_report_is_json_with_its_settings(report):
    assert json.loads(json.dumps(report)) == report
    assert report["images"] == 60
    assert report["eps"] == list(SIZES)
    assert report["check_at"] == 4 / 255
    assert (report["random"], report["votes"], report["draws"]) == (False, 1, [1])
    assert report["attacks"] == {name: repr(attack) for name, attack in LIGHT.items()}


class Hits(Attack):
    """Lets those images err whose first pixel is `at`: a known outcome."""

    def __init__(self, at):
        super().__init__()
        object.__setattr__(self, "at", at)

    def __repr__(self):
        return f"Hits({self.at})"

    def climb(self, problem, rows, best):
        x = problem.clean[rows].copy()
        hit = np.isin(x[:, 0], self.at)
        x[hit, 1] = 255 - x[hit, 1]
        best.update(x, rows, problem.assess(x, rows, "margin"))


def test_union_is_of_single_images_and_nested():
    """An image survives only if it survives all, also what is smaller."""
    inputs = keras.Input((2, 1, 1), name="a")
    dense = L.Dense(2, use_bias=False, name="t")
    model = keras.Model(inputs, dense(L.Rescaling(1, -127.5)(L.Flatten()(inputs))))
    dense.set_weights([np.array([[0, 0], [-0.01, 0.01]], "float32")])
    x = np.array([[i, 200] for i in range(1, 11)], "float32").reshape(10, 2, 1, 1)

    class OnlySmall(Hits):
        def climb(self, problem, rows, best):
            if problem.eps < 2:
                super().climb(problem, rows, best)

    attacks = {"first": Hits((1, 2, 3)), "second": OnlySmall((3, 4))}
    report = evaluate(
        model, x, np.ones(10, int), (1 / 255, 3 / 255), attacks, check_at=None
    )
    values = {
        (row["attack"], round(row["eps"] * 255)): row["accuracy"]["value"]
        for row in report["tasks"]["t"]["attacks"]
    }
    assert values == {
        ("first", 1): 0.7,
        ("second", 1): 0.8,
        ("first", 3): 0.7,
        ("second", 3): 1.0,
    }
    assert union_of(report) == [0.6, 0.6]
    assert report["checks"] == []


def test_unknown_labels_are_left_out(two_class, samples, report):
    x, y, _ = samples
    known = np.arange(60) % 3 > 0
    with_unknown = evaluate(
        two_class.model, x, np.where(known, y, -1), SIZES, {"FGSM": FGSM()}
    )
    some = {name: image[known] for name, image in x.items()}
    without = evaluate(two_class.model, some, y[known], SIZES, {"FGSM": FGSM()})
    assert with_unknown["tasks"]["t"]["images"] == known.sum() < 60
    for key in ("clean", "union", "images"):
        assert with_unknown["tasks"]["t"][key] == without["tasks"]["t"][key]
    assert union_of(with_unknown) != union_of(report)


def test_a_task_without_labels_and_one_that_is_always_wrong(linear):
    x = pixels(12)
    y = {"t": (linear.labels(x)["t"] + 1) % 3}
    report = evaluate(linear.model, x, y, SIZES[:1], {"FGSM": FGSM()})
    assert report["tasks"]["u"]["images"] == 0
    assert report["tasks"]["u"]["clean"] == {"value": None, "interval": None}
    assert report["tasks"]["u"]["majority"] is None
    counts = np.bincount(y["t"])
    assert report["tasks"]["t"]["majority"] == pytest.approx(counts.max() / 12)
    assert report["tasks"]["t"]["clean"]["value"] == 0
    assert {check["task"] for check in report["checks"]} == {"t"}
    assert json.loads(json.dumps(report)) == report


def test_tasks_and_modalities_alone(linear):
    x = pixels(30)
    report = evaluate(
        linear.model,
        x,
        linear.labels(x),
        (2 / 255,),
        {"PGD": PGD(5)},
        each_task=True,
        each_modality=True,
        check_at=None,
    )
    for task in ("t", "u"):
        rows = {
            (row["aim"], row["changed"]): row["accuracy"]["value"]
            for row in report["tasks"][task]["attacks"]
        }
        assert set(rows) == {(i, j) for i in ("all", "t", "u") for j in ("all", *"ab")}
        # A task suffers most where it alone is the aim, from a change of all images.
        assert rows[task, "all"] == min(rows.values()) < 1
        assert rows[task, "all"] < rows[task, "b"]
        assert union_of(report, task)[0] <= rows[task, "all"]


# -- Masked gradients ------------------------------------------------------------------


def masked(two_class, how):
    logits = two_class.model.output["t"]
    if how == "rounded":  # no gradient anywhere
        logits = ops.round(16 * logits) / 16
    elif how == "saturated":  # none where it is sure
        gap = ops.clip(20 * (logits[:, 1:] - logits[:, :1]), -1, 1)
        logits = ops.concatenate([-gap, gap], axis=-1)
    else:  # a gradient that points nowhere
        logits = logits + 0.02 * ops.sin(2e4 * logits)
    return keras.Model(two_class.inputs, {"t": logits})


@pytest.mark.parametrize(
    ("how", "fails"),
    [
        ("rounded", {"zero gradients", "unbounded", "gradient free"}),
        ("saturated", {"zero gradients", "unbounded"}),
        ("shattered", {"unbounded", "gradient free"}),
    ],
)
def test_masked_gradients_are_found_out(two_class, samples, how, fails):
    x, y, _ = samples
    report = evaluate(
        masked(two_class, how), x, y, SIZES[-1:], {"PGD": PGD(5)}, batch_size=60
    )
    found = {
        name for name, check in verdicts(report).items() if check["holds"] is False
    }
    assert fails <= found
    # PGD alone would have called it far more robust than it is.
    worst = two_class.worst_margin(x, {"t": y}, "t", 4)
    assert union_of(report)[0] > np.mean(worst > 0) + 0.1


def test_transfer_sees_what_a_masked_gradient_hides(two_class, samples):
    x, y, _ = samples
    model = masked(two_class, "saturated")
    report = evaluate(
        model,
        x,
        y,
        SIZES[-1:],
        {"PGD": PGD(5)},
        surrogate=two_class.model,
        batch_size=60,
    )
    assert verdicts(report)["transfer"]["holds"] is False
    assert verdicts(report)["transfer"]["value"] < -0.1


# -- Random classifiers ----------------------------------------------------------------


def test_random_classifier():
    alone = Linear({"t": 2}, {"a": (4, 4, 1)})
    logits = AttentionNoise(0.3)(alone.model.output["t"])
    model = keras.Model(alone.inputs, {"t": logits})
    x = pixels(20, {"a": (4, 4, 1)})
    y = alone.labels(x)["t"]

    def run(**options):
        return evaluate(
            model,
            x,
            y,
            SIZES[1:],
            {"PGD": PGD(3), "noise": RandomNoise()},
            draws=(5, 1),
            votes=6,
            batch_size=20,
            **options,
        )

    report = run()
    assert report["random"] is True
    assert (report["draws"], report["votes"]) == ([1, 5], 6)
    task = report["tasks"]["t"]
    cells = [(row["attack"], row["draws"]) for row in task["attacks"]]
    # The first shows where more draws no longer help; the rest see the most.
    assert cells == 2 * [("PGD", 1), ("PGD", 5), ("noise", 5)]
    for accuracy in (task["clean"], *(row["accuracy"] for row in task["attacks"])):
        assert set(accuracy) == {"value", "interval", "single", "spread"}
        assert 0 <= accuracy["single"] <= 1
    # The mean of several draws errs less than one draw.
    assert task["clean"]["single"] < task["clean"]["value"]
    assert task["clean"]["spread"] > 0
    found = verdicts(report)
    assert set(found) == CHECKS | {"straight through", "frozen"}
    assert found["frozen"]["holds"] is None
    assert 0 <= found["frozen"]["value"] <= 1
    assert run() == report
    assert run(seed=1) != report


# -- Going on --------------------------------------------------------------------------


def arguments(two_class, samples):
    x, y, _ = samples
    attacks = {"PGD": PGD(2), "noise": RandomNoise(), "Square": Square(3)}
    return (two_class.model, x, y, SIZES[:2], attacks)


def test_what_is_kept_is_not_computed_again(two_class, samples, monkeypatch):
    given = arguments(two_class, samples)
    outcomes, told = Kept(), []
    report = evaluate(
        *given, outcomes=outcomes, progress=lambda *call: told.append(call)
    )
    count = told[-1][1]
    assert [call[0] for call in told] == list(range(count + 1))
    assert told[-1] == (count, count, "")
    assert all(name for _, _, name in told[:-1])
    assert outcomes.puts == len(outcomes) == count + 1  # and the clean images

    def search(*_):
        raise AssertionError("searched again")

    for attack in (Attack, PGD, Square, RandomNoise):
        monkeypatch.setattr(attack, "search", search)
    assert evaluate(*given, outcomes=outcomes) == report
    assert outcomes.puts == count + 1


def test_goes_on_after_an_interruption(two_class, samples):
    given = arguments(two_class, samples)
    wanted = evaluate(*given)
    outcomes = Kept()

    def interrupt(number, *_):
        if number == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(*given, outcomes=outcomes, progress=interrupt)
    assert outcomes.puts == 5
    assert evaluate(*given, outcomes=outcomes) == wanted
    assert outcomes.puts == len(outcomes)


# -- Bad input -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": (4,)}, "from 0 to 1; four grey levels of 255 are 4/255"),
        ({"check_at": -0.1}, "from 0 to 1"),
        ({"votes": 0}, "`votes` must be an integer of at least 1"),
        ({"attacks": FULL}, "three classes. Task 't' has 2"),
        ({"attacks": {"x": APGD("dlr")}}, "three classes. Task 't' has 2"),
    ],
)
def test_bad_arguments(two_class, samples, options, message, monkeypatch):
    """Said before anything is attacked."""
    monkeypatch.setattr(PGD, "climb", None)
    x, y, _ = samples
    with pytest.raises(ValueError, match=message):
        evaluate(two_class.model, x, y, **{"eps": SIZES, **options})


def test_bad_draws():
    alone = Linear({"t": 2}, {"a": (4, 4, 1)})
    model = keras.Model(
        alone.inputs, {"t": AttentionNoise(0.3)(alone.model.output["t"])}
    )
    x = pixels(2, {"a": (4, 4, 1)})
    with pytest.raises(ValueError, match="`draws` must be an integer of at least 1"):
        evaluate(model, x, np.zeros(2, int), draws=(0, 1))
