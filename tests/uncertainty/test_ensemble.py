"""Ensembles: one model of several members, and all of them still there."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

import drifa_keras
from drifa_keras import uncertainty
from drifa_keras.uncertainty import Ensemble
from harness import as_numpy

# All that another project does.
SCRIPT = """
import sys
import numpy as np
import drifa_keras
import keras

folder = sys.argv[1]
data = np.load(folder + "/data.npz")
images = {name: data[name] for name in ("ct", "skin")}
ensemble = keras.models.load_model(folder + "/ensemble.keras")
mean = ensemble.predict(images, verbose=0)
np.savez(
    folder + "/found.npz",
    kinds=[type(member).__name__ for member in ensemble.members],
    **{"mean." + task: p for task, p in mean.items()},
    **{"each." + task: p for task, p in ensemble.predict_members(images).items()},
)
"""


@pytest.fixture(scope="module")
def members(make_drifa):
    models = []
    for seed in range(3):
        keras.utils.set_random_seed(seed)
        models.append(make_drifa(name="network"))
    return models


@pytest.fixture(scope="module")
def ensemble(members):
    return Ensemble(members)


@pytest.fixture(scope="module")
def expected(members, images):
    """What each member predicts: `(members, n, classes)`, by task."""
    outputs = [member.predict(images, verbose=0) for member in members]
    return {task: np.stack([o[task] for o in outputs]) for task in outputs[0]}


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=1e-6)


def test_predicts_the_mean_of_its_members(ensemble, expected, images):
    mean = {task: p.mean(axis=0) for task, p in expected.items()}
    assert_close(ensemble.predict(images, verbose=0), mean)
    assert_close(ensemble.predict_members(images), expected)
    called = ensemble({name: x.astype("float32") for name, x in images.items()})
    assert_close({task: as_numpy(p) for task, p in called.items()}, mean)


def test_stands_where_a_model_can(ensemble, expected, images):
    assert ensemble.tasks == {"lesion": 3, "nodule": 2}
    assert list(ensemble.modalities) == ["ct", "skin"]
    found = drifa_keras.predict(ensemble, {"ct": images["ct"]})
    assert found["lesion"].shape == (5, 3)
    with pytest.raises(ValueError, match="Missing modality 'skin'"):
        ensemble.predict({"ct": images["ct"]})


def test_members_and_weights_are_those_given(ensemble, members):
    assert ensemble.members == members
    own = {id(w) for member in members for w in member.weights}
    assert {id(w) for w in ensemble.weights} == own
    assert [member.name for member in members] == ["network"] * 3


def test_draws_are_those_of_every_member(ensemble, members, images):
    results = ensemble.predict(images, passes=4, return_passes=True, verbose=0)
    again = uncertainty.predict(ensemble, images, 4, return_passes=True, verbose=0)
    first = uncertainty.predict(members[0], images, 4, return_passes=True, verbose=0)
    for task, classes in ensemble.tasks.items():
        passes = results[task].passes
        assert passes.shape == (3 * 4, 5, classes)
        np.testing.assert_array_equal(passes, again[task].passes)
        np.testing.assert_allclose(passes[:4], first[task].passes, atol=1e-6)
        np.testing.assert_allclose(
            results[task].mutual_information,
            uncertainty.mutual_information(passes),
            atol=1e-9,
        )
        of_members = passes.reshape(3, 4, 5, classes).mean(axis=1)
        assert of_members.std(axis=0).max() > 1e-3


def test_members_of_one_architecture_have_masks_of_their_own():
    member = keras.Sequential([keras.Input((8,)), layers.Dropout(0.5)])
    ensemble = Ensemble([member, member])
    (result,) = ensemble.predict(
        np.ones((3, 8), "float32"), passes=5, return_passes=True, verbose=0
    ).values()
    assert (result.passes[:5] != result.passes[5:]).any(axis=(1, 2)).all()


def test_single_file_still_holds_the_members(ensemble, expected, images, tmp_path):
    ensemble.save(tmp_path / "ensemble.keras")
    np.savez(tmp_path / "data.npz", **images)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "found.npz") as found:
        assert found["kinds"].tolist() == ["DRIFANet"] * 3
        for task, each in expected.items():
            np.testing.assert_allclose(found[f"each.{task}"], each, atol=1e-5)
            mean = each.mean(axis=0)
            np.testing.assert_allclose(found[f"mean.{task}"], mean, atol=1e-5)


def test_loaded_file_is_the_same_in_every_way(ensemble, images, tmp_path):
    ensemble.save(tmp_path / "ensemble.keras")
    loaded = keras.saving.load_model(tmp_path / "ensemble.keras")
    assert type(loaded) is Ensemble
    assert loaded.name == ensemble.name
    assert loaded.get_config() == ensemble.get_config()
    one, other = (
        model.predict(images, passes=2, verbose=0) for model in (ensemble, loaded)
    )
    for task, result in one.items():
        np.testing.assert_allclose(result.mean, other[task].mean, atol=1e-6)


def test_optimizers_stay_with_the_members(make_drifa, tmp_path):
    member = make_drifa()
    member.compile("adam", loss="categorical_crossentropy")
    member.optimizer.build(member.trainable_variables)
    ensemble = Ensemble([member])
    ensemble.save(tmp_path / "ensemble.keras")
    loaded = keras.saving.load_model(tmp_path / "ensemble.keras")
    assert not loaded.members[0].compiled
    ensemble.save(tmp_path / "folder")
    assert Ensemble.load(tmp_path / "folder").members[0].compiled


def test_folder(ensemble, expected, images, tmp_path):
    folder = tmp_path / "runs" / "v0.1"
    ensemble.save(folder)
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert files == ["ensemble.json"] + [f"member_{i}/model.keras" for i in range(3)]
    assert_close(Ensemble.load(folder).predict_members(images), expected)
    with pytest.raises(ValueError, match="exists already"):
        ensemble.save(folder)
    (folder / "member_1" / "model.keras").unlink()
    with pytest.raises(ValueError, match=r"3 members, and lacks .*member_1"):
        Ensemble.load(folder)


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_folder_without_an_ensemble(name, tmp_path):
    with pytest.raises(ValueError, match=r"no ensemble\.json"):
        Ensemble.load(tmp_path / name)


def test_models_of_one_input_and_output():
    models = [
        keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="softmax")])
        for _ in range(2)
    ]
    ensemble = Ensemble(models)
    x = np.random.default_rng(0).standard_normal((5, 4)).astype("float32")
    expected = np.stack([model.predict(x, verbose=0) for model in models])
    np.testing.assert_allclose(
        ensemble.predict(x, verbose=0), expected.mean(axis=0), atol=1e-6
    )
    (each,) = ensemble.predict_members(x).values()
    np.testing.assert_allclose(each, expected, atol=1e-6)


def test_members_that_do_not_fit(members, make_drifa):
    class Subclassed(keras.Model):
        pass

    with pytest.raises(ValueError, match="at least one member"):
        Ensemble([])
    with pytest.raises(ValueError, match="Functional.*Subclassed"):
        Ensemble([members[0], Subclassed()])
    inputs = keras.Input((4,))
    other = keras.Model(inputs, layers.Dense(2)(inputs))
    with pytest.raises(ValueError, match=r"member 0 .*lesion.*member 1 .*\(4,\)"):
        Ensemble([members[0], other])


def test_member_without_dropout(images, make_drifa):
    ensemble = Ensemble([make_drifa(), make_drifa(dropout=0.0)])
    with pytest.raises(ValueError, match="no active dropout"):
        ensemble.predict(images, passes=2, verbose=0)
    # Without passes it is a deep ensemble.
    assert set(ensemble.predict_members(images)) == {"lesion", "nodule"}
