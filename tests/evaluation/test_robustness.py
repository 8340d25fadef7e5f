"""Attacking a run: which cases, what is written, and going on after an interruption."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from drifa_keras import robustness, uncertainty
from drifa_keras.evaluation import attack_run, predict_test
from drifa_keras.runs import Run, read_sources, read_splits

EPS = 4 / 255
WHICH = ("clean", "attacked")
TASKS = {"skin_lesion": "dermoscopy", "ct_nodule": "ct"}


def phantoms(modality, n):
    options = {"n": n, "image_size": 16, "modalities": [modality]}
    return {"reader": "phantoms", "options": options}


@pytest.fixture(scope="module")
def run(make_run):
    """A run with fewer test images of CT than of dermoscopy."""
    return make_run(phantoms("dermoscopy", 160), phantoms("ct", 80))


@pytest.fixture(scope="module")
def test_part(run):
    pairing = read_sources(run.config)
    return read_splits(run, pairing).take(pairing, "test")


def sources_by_task(test_part):
    return {task: test_part.sources[test_part.source_of_task(task)] for task in TASKS}


@pytest.fixture(scope="module")
def label_of(test_part):
    """Task to a dict of the bytes of each test image to its label."""
    return {
        task: {
            image.tobytes(): label
            for image, label in zip(
                source.modalities[TASKS[task]], source.targets[task], strict=True
            )
        }
        for task, source in sources_by_task(test_part).items()
    }


def folder_of(run, tmp_path):
    """A copy of a run, as it was after training."""
    folder = shutil.copytree(run.folder, tmp_path / "run")
    for name in ("attacks.npz", "robustness.json", "robustness.npz"):
        (folder / name).unlink(missing_ok=True)
    return Run.open(folder)


# === A run under attack ===


@pytest.fixture(scope="module")
def seen():
    """What was said of the progress."""
    return []


@pytest.fixture(scope="module")
def report(run, seen):
    return attack_run(run, [EPS], images=1000, progress=lambda *said: seen.append(said))


def test_report_is_written(run, report):
    written = json.loads((run.folder / "robustness.json").read_text())
    assert written == json.loads(json.dumps(report, allow_nan=False))
    assert (report["protocol"], report["trained"]) == ("light", None)
    assert report["eps"] == [EPS]
    assert report["seed"] == 3
    assert list(report["attacks"]) == list(robustness.LIGHT)
    for task, found in report["tasks"].items():
        assert found["classes"] == list(run.class_names[task])


def test_accuracies_are_those_of_the_evaluation(run, report, test_part):
    model = run.load_model()
    plain = predict_test(model, test_part, (16, 16), draws=1, seed=3)
    for task, result in plain.items():
        found = report["tasks"][task]
        right = result.probabilities[0].argmax(axis=1) == result.y_true
        assert found["images"] == len(right)
        assert found["clean"]["value"] == pytest.approx(right.mean())
        union = {entry["eps"]: entry["accuracy"]["value"] for entry in found["union"]}
        for entry in found["attacks"]:
            assert union[entry["eps"]] <= entry["accuracy"]["value"]


def test_progress(report, seen):
    done, count, names = zip(*seen, strict=True)
    assert list(done) == list(range(len(seen)))
    assert set(count) == {len(seen) - 1}
    assert all(names[:-1]) and names[-1] == ""


class Interruption(Exception):
    pass


def test_interrupted_run_goes_on(run, report, tmp_path, monkeypatch):
    again = folder_of(run, tmp_path)

    def interrupt(done, count, name):
        if done == 3:
            raise Interruption

    with pytest.raises(Interruption):
        attack_run(again, [EPS], images=1000, progress=interrupt)
    with np.load(run.folder / "attacks.npz") as arrays:
        whole = {n: arrays[str(k)] for k, n in enumerate(arrays["names"].tolist())}
    with np.load(again.folder / "attacks.npz") as arrays:
        names = arrays["names"].tolist()
        assert names == list(whole)[:4] and names[0] == "clean"
    assert not (again.folder / "robustness.json").exists()
    searched, search = [], robustness.Attack.search

    def spy(attack, problem):
        searched.append(attack)
        return search(attack, problem)

    monkeypatch.setattr(robustness.Attack, "search", spy)
    # The examples are not among the outcomes.
    monkeypatch.setattr(robustness, "PGD", lambda steps: lambda model, x, *a, **k: x)
    assert attack_run(again, [EPS], images=1000) == report
    assert len(searched) == len(whole) - len(names)
    with np.load(again.folder / "attacks.npz") as arrays:
        assert set(arrays["names"]) == set(whole)
        for number, name in enumerate(arrays["names"]):
            np.testing.assert_array_equal(arrays[str(number)], whole[name])


# === Which cases, and what is kept: without a network ===


class Lookup:
    """Knows the label of every test image; of any other it says class 0."""

    def __init__(self, label_of, class_names):
        self.label_of, self.class_names = label_of, class_names

    def predict(self, images, verbose):
        answers = {}
        for task, labels in self.label_of.items():
            keys = [image.astype("uint8").tobytes() for image in images[TASKS[task]]]
            found = [labels.get(key, 0) for key in keys]
            answers[task] = np.eye(len(self.class_names[task]))[found]
        return answers


@pytest.fixture
def model(run, label_of, monkeypatch):
    """The network that any run loads."""
    model = Lookup(label_of, run.class_names)
    monkeypatch.setattr(Run, "load_model", lambda run: model)
    return model


@pytest.fixture
def asked(monkeypatch, model):
    """What was asked of `evaluate`, which attacks nothing and keeps two outcomes."""
    calls = []

    def evaluate(model, x, y, eps, attacks, *, outcomes, **options):
        asked = {"model": model, "x": x, "y": y, "eps": eps, "attacks": attacks}
        calls.append(SimpleNamespace(**asked, known=dict(outcomes), **options))
        for number, name in enumerate(("PGD()", "transfer PGD()")):
            outcomes[name] = np.full((1, 2, len(calls)), number, "uint8")
        settings = {"check_at": EPS, "votes": 2, "draws": [1], "seed": 3}
        return {"tasks": {task: {} for task in y}, **settings}

    def brighter(model, x, y, eps, **options):
        """Changes every second case."""
        return {
            name: images + [[[[k % 2]]] for k in range(len(images))]
            for name, images in x.items()
        }

    monkeypatch.setattr(robustness, "evaluate", evaluate)
    monkeypatch.setattr(robustness, "PGD", lambda steps: brighter)
    return calls


def keys(images):
    return [image.astype("uint8").tobytes() for image in images]


def test_more_images_than_the_split_has(run, asked, label_of, tmp_path):
    attack_run(folder_of(run, tmp_path), images=1000)
    (call,) = asked
    few, many = len(label_of["ct_nodule"]), len(label_of["skin_lesion"])
    assert 0 < few < many
    for task, modality in TASKS.items():
        images, labels = call.x[modality], call.y[task]
        assert images.dtype == "float32" and len(images) == len(labels) == many
        shown = list(zip(keys(images), labels, strict=True))
        # Every image counts once; where it is there as a partner only, it has no label.
        counted = [(key, label) for key, label in shown if label >= 0]
        assert dict(counted) == label_of[task]
        assert len(counted) == len(label_of[task])
    assert (call.y["ct_nodule"] == -1).sum() == many - few


def test_cases_with_all_labels_come_first(run, asked, label_of, tmp_path):
    few = len(label_of["ct_nodule"])
    copy = folder_of(run, tmp_path)
    attack_run(copy, images=few + 2)
    attack_run(copy, images=few - 2)
    more, fewer = (np.array(list(call.y.values())) for call in asked)
    assert more.shape == (2, few + 2)
    assert (more[:, :few] >= 0).all()
    assert (more[1, few:] == -1).all() and (more[0, few:] >= 0).all()
    np.testing.assert_array_equal(fewer, more[:, : few - 2])
    for task, modality in TASKS.items():
        for key, label in zip(
            keys(asked[1].x[modality]), asked[1].y[task], strict=True
        ):
            assert label_of[task][key] == label


def test_the_seed_chooses_the_cases(run, asked, tmp_path):
    copy = folder_of(run, tmp_path)
    other = replace(copy, config=copy.config.model_copy(update={"seed": 4}))
    for which in (copy, other, copy):
        attack_run(which, images=5)
    chosen = [set(keys(call.x["dermoscopy"])) for call in asked]
    assert chosen[0] == chosen[2] != chosen[1]
    assert [call.seed for call in asked] == [3, 4, 3]


def test_settings_reach_the_evaluation(run, asked, tmp_path):
    copy = folder_of(run, tmp_path)
    report = attack_run(
        copy,
        [EPS],
        images=3,
        protocol="full",
        draws=(2, 4),
        votes=7,
        each_task=True,
        each_modality=True,
        surrogate=copy,
    )
    (call,) = asked
    assert call.eps == [EPS] and call.attacks == robustness.FULL
    assert (call.draws, call.votes) == ((2, 4), 7)
    assert call.each_task and call.each_modality
    assert call.surrogate is call.model
    assert call.check_at == EPS
    assert report["protocol"] == "full"


def test_without_checks(run, asked, tmp_path):
    attack_run(folder_of(run, tmp_path), [2 * EPS], images=3, checks=False)
    assert asked[0].check_at is None


def test_some_attacks_of_a_protocol(run, asked, tmp_path):
    copy = folder_of(run, tmp_path)
    attack_run(copy, images=3, attacks=["Square-500", "PGD-20"])
    assert list(asked[0].attacks) == ["PGD-20", "Square-500"]
    with pytest.raises(ValueError, match="some of .*'Square-500'.*Received: 'FGSM'"):
        attack_run(copy, images=3, attacks=["PGD-20", "FGSM"])
    with pytest.raises(ValueError, match=r"leaves none of .*Received: \[\]"):
        attack_run(copy, images=3, attacks=[])


def test_full_protocol_suits_tasks_of_two_classes():
    from drifa_keras.evaluation.robustness import _attacks

    assert _attacks("full", None, 3) == robustness.FULL
    left_out = robustness.FULL.keys() - _attacks("full", None, 2).keys()
    assert left_out == {"APGD-DLR-100"}


def test_adversarial_training_is_told(run, asked, tmp_path):
    content = run.config.model_dump()
    content["training"]["adversarial"] = {"eps": "8/255", "steps": 3}
    copy = folder_of(run, tmp_path)
    trained = replace(copy, config=type(run.config).model_validate(content))
    report = attack_run(trained, images=3)
    assert report["trained"] == {"eps": 8 / 255, "steps": 3, "step_size": None}


def test_first_member_of_an_ensemble_is_attacked(run, asked, tmp_path, monkeypatch):
    members = [run.load_model() for _ in range(2)]
    ensemble = object.__new__(uncertainty.Ensemble)
    ensemble.__dict__["members"] = members
    monkeypatch.setattr(Run, "load_model", lambda run: ensemble)
    attack_run(folder_of(run, tmp_path), images=3)
    assert asked[0].model is members[0]


def test_outcomes_are_kept(run, asked, tmp_path):
    copy = folder_of(run, tmp_path)
    for _ in range(2):
        attack_run(copy, images=3)
    first, second = (call.known for call in asked)
    assert first == {}
    assert list(second) == ["PGD()", "transfer PGD()"]
    for number, outcome in enumerate(second.values()):
        np.testing.assert_array_equal(outcome, np.full((1, 2, 1), number))
    assert not list(copy.folder.glob("*.part*"))


@pytest.mark.parametrize("what", ["network", "seed", "images", "votes"])
def test_outcomes_of_something_else_are_not(what, run, asked, tmp_path):
    copy, settings = folder_of(run, tmp_path), {"images": 3}
    attack_run(copy, **settings)
    if what == "network":
        with copy.model_path.open("ab") as file:
            file.write(b" ")
    elif what == "seed":
        copy = replace(copy, config=copy.config.model_copy(update={"seed": 4}))
    else:
        settings[what] = 4
    attack_run(copy, **settings)
    assert asked[1].known == {}
    attack_run(copy, **settings)
    assert len(asked[2].known) == 2


def test_outcomes_of_another_surrogate_are_not(run, asked, tmp_path):
    copy, other = folder_of(run, tmp_path), folder_of(run, tmp_path / "other")
    with other.model_path.open("ab") as file:
        file.write(b" ")
    for surrogate in (copy, copy, other, None):
        attack_run(copy, images=3, surrogate=surrogate)
    known = [list(call.known) for call in asked]
    assert known == [[], ["PGD()", "transfer PGD()"], ["PGD()"], ["PGD()"]]


def test_examples(run, asked, model, label_of, tmp_path):
    copy = folder_of(run, tmp_path)
    attack_run(copy, images=1000)
    with np.load(copy.folder / "robustness.npz") as arrays:
        arrays = dict(arrays)
    assert arrays["eps"] == np.float32(EPS)
    changed = []
    for task, modality in TASKS.items():
        clean, attacked = (arrays[f"image.{w}.{modality}"] for w in WHICH)
        before, after = (arrays[f"{task}.{w}"] for w in WHICH)
        assert len(clean) == len(attacked) == len(before) == len(after) == 4
        assert [label_of[task][key] for key in keys(clean)] == before.tolist()
        found = model.predict(
            {name: arrays[f"image.attacked.{name}"] for name in TASKS.values()}, 0
        )
        np.testing.assert_array_equal(after, found[task].argmax(axis=1))
        changed.append(after != before)
    changed = np.sum(changed, axis=0)
    # Half of the cases are changed, and a third of the answers is class 0 already.
    assert changed[0] == 2 and (np.diff(changed) <= 0).all()


def test_no_case_is_answered_rightly(run, asked, model, tmp_path):
    # One class too far, always.
    model.label_of = {
        task: {key: (k + 1) % len(run.class_names[task]) for key, k in labels.items()}
        for task, labels in model.label_of.items()
    }
    copy = folder_of(run, tmp_path)
    attack_run(copy, images=1000)
    with np.load(copy.folder / "robustness.npz") as arrays:
        assert set(arrays) == {"eps"}


# === What is wrong ===


@pytest.mark.parametrize("how", ["empty", "text", "cut off", "another file"])
def test_broken_outcomes(how, run, asked, tmp_path):
    copy = folder_of(run, tmp_path)
    attack_run(copy, images=3)
    path = copy.folder / "attacks.npz"
    content = path.read_bytes()
    if how == "another file":
        np.savez(path, a=1)
    else:
        path.write_bytes({"empty": b"", "text": b"text", "cut off": content[:-40]}[how])
    with pytest.raises(ValueError, match=r"attacks\.npz is not what .* Delete it"):
        attack_run(copy, images=3)
    path.unlink()
    attack_run(copy, images=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"protocol": "strong"}, r"one of \['light', 'full'\]. Received: 'strong'"),
        ({"images": 0}, "`images` must be .* Received: 0"),
        ({"images": 1.5}, "`images` must be .* Received: 1.5"),
    ],
)
def test_bad_arguments(arguments, message, run, asked):
    with pytest.raises(ValueError, match=message):
        attack_run(run, **arguments)
    assert asked == []


@pytest.mark.parametrize("eps", [4, "4/255"])
def test_bad_eps(eps, run, report):
    with pytest.raises(ValueError, match=f"`eps` is a share .* Received: eps={eps!r}"):
        attack_run(run, [EPS, eps], images=1000)


def test_folder_without_a_model(run, tmp_path):
    copy = folder_of(run, tmp_path)
    copy.model_path.unlink()
    with pytest.raises(ValueError, match="did not finish an epoch"):
        attack_run(copy)
