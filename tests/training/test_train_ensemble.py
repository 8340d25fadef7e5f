"""Training of an ensemble: members that differ, one split, one run to read."""

import json

import numpy as np
import pytest

from drifa_keras.evaluation import evaluate
from drifa_keras.runs import Run
from drifa_keras.training import train, train_ensemble
from drifa_keras.uncertainty import Ensemble
from harness import as_numpy


@pytest.fixture(scope="module")
def config(make_config):
    return make_config(modalities=["ct"], seed=5, epochs=1)


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ensemble") / "deep" / "run"
    return train_ensemble(config, folder, members=2, verbose=0)


def test_members_are_runs_with_seeds_of_their_own(run):
    members = [Run.open(run.folder / f"member_{i}") for i in range(2)]
    assert [member.config.seed for member in members] == [10, 11]
    for member in members:
        assert (member.folder / "history.csv").is_file()
        assert member.config.model_copy(update={"seed": 5}) == run.config
    one, other = (member.load_model().get_weights() for member in members)
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(one, other, strict=True))


def test_members_share_the_split(run):
    folders = [run.folder, run.folder / "member_0", run.folder / "member_1"]
    texts = [(folder / "splits.json").read_text() for folder in folders]
    assert texts[0] == texts[1] == texts[2]


def test_member_is_what_training_alone_gives(run, config, tmp_path):
    alone = train(config.model_copy(update={"seed": 10}), tmp_path / "run", verbose=0)
    member = Run.open(run.folder / "member_0")
    for one, other in zip(
        alone.load_model().weights, member.load_model().weights, strict=True
    ):
        np.testing.assert_array_equal(as_numpy(one), as_numpy(other))


def test_run_is_read_like_any_other(run):
    opened = Run.open(run.folder)
    assert opened.config == run.config
    model = opened.load_model()
    assert isinstance(model, Ensemble)
    assert len(model.members) == 2
    report = evaluate(opened, verbose=0)
    with np.load(run.folder / "predictions.npz") as arrays:
        probabilities = arrays["ct_nodule.probabilities"]
    assert probabilities.shape == (1, report["tasks"]["ct_nodule"]["images"], 3)
    # One model: its mean, not one draw a member.
    of_members = []
    for i in range(2):
        member = Run.open(run.folder / f"member_{i}")
        evaluate(member, verbose=0)
        with np.load(member.folder / "predictions.npz") as arrays:
            of_members.append(arrays["ct_nodule.probabilities"])
    np.testing.assert_allclose(probabilities, np.mean(of_members, axis=0), atol=1e-6)


def test_folder_is_an_ensemble(run):
    manifest = json.loads((run.folder / "ensemble.json").read_text())
    assert manifest == {"members": ["member_0", "member_1"]}
    assert len(Ensemble.load(run.folder).members) == 2


@pytest.mark.parametrize("members", [0, 2.5, "two"])
def test_number_of_members(members, config, tmp_path):
    with pytest.raises(ValueError, match=f"members.*{members}"):
        train_ensemble(config, tmp_path / "run", members=members)
    assert not (tmp_path / "run").exists()


def test_mistake_is_found_before_the_folder_is_made(make_config, tmp_path):
    config = make_config(arguments={"mffa": False})
    with pytest.raises(ValueError, match="mffa"):
        train_ensemble(config, tmp_path / "run", members=2, verbose=0)
    assert not (tmp_path / "run").exists()


def test_folder_is_never_overwritten(run, config):
    with pytest.raises(ValueError, match="exists already"):
        train_ensemble(config, run.folder, members=2, verbose=0)
