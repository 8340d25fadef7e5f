"""Run folders: made once, opened by every command, never overwritten."""

import json

import keras
import numpy as np
import pytest
import yaml

from drifa_keras.configs import load_config, parse_config
from drifa_keras.data import Source, pair, phantoms
from drifa_keras.runs import (
    Run,
    load_images,
    read_sources,
    read_splits,
    split_sources,
)

NAMES = {"lesion": ("smooth", "ring"), "nodule": ("solid", "cavitary")}


def make_config(**data):
    sources = [{"reader": "phantoms", "options": {"n": 100, "image_size": 16}}]
    data = {"sources": sources, "image_size": 16, **data}
    return parse_config({"name": "study", "seed": 4, "data": data})


def test_created_and_opened(tmp_path):
    config = load_config("phantoms", {"seed": 9, "model.arguments.filters": [4]})
    run = Run.create(config, NAMES, tmp_path / "a" / "run")
    opened = Run.open(tmp_path / "a" / "run")
    assert opened.config == config == run.config
    assert opened.class_names == NAMES == run.class_names
    assert opened.model_path == tmp_path / "a" / "run" / "model.keras"


def test_config_file_says_everything(tmp_path):
    Run.create(make_config(), NAMES, tmp_path / "run")
    content = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert content["name"] == "study"
    assert content["seed"] == 4
    assert content["training"]["batch_size"] == 32
    resolved = content["resolved"]
    assert resolved["versions"]["keras"] == keras.__version__
    assert resolved["backend"] == keras.backend.backend()
    assert resolved["class_names"]["lesion"] == ["smooth", "ring"]
    # Without what was resolved it is a configuration that can be trained again.
    del content["resolved"]
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(content))
    assert load_config(path) == make_config()


def test_class_names_may_be_in_any_language(tmp_path):
    names = {"lesion": ("gutartig", "bösartig", "悪性")}
    Run.create(make_config(), names, tmp_path / "run")
    assert Run.open(tmp_path / "run").class_names == names


def test_empty_folder_is_taken_and_a_full_one_left_alone(tmp_path):
    (tmp_path / "empty").mkdir()
    Run.create(make_config(), NAMES, tmp_path / "empty")
    with pytest.raises(ValueError, match=r"exists already.*--out"):
        Run.create(make_config(), NAMES, tmp_path / "empty")
    full = tmp_path / "full"
    full.mkdir()
    (full / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="never overwritten") as error:
        Run.create(make_config(), NAMES, full)
    assert str(full) in str(error.value)
    assert [path.name for path in full.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_folder_that_is_no_run(name, tmp_path):
    with pytest.raises(ValueError, match=r"no run folder.*config\.yaml"):
        Run.open(tmp_path / name)


@pytest.mark.parametrize("text", ["seed: 3\n", "", "- a\n"])
def test_config_that_no_run_wrote(text, tmp_path):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match="`resolved`") as error:
        Run.open(tmp_path)
    assert str(tmp_path / "config.yaml") in str(error.value)


def test_config_that_was_broken_by_hand(tmp_path):
    Run.create(make_config(), NAMES, tmp_path / "run")
    path = tmp_path / "run" / "config.yaml"
    path.write_text(path.read_text().replace("batch_size: 32", "batch_sise: 32"))
    with pytest.raises(ValueError, match=r"batch_sise.*Did you mean 'batch_size'"):
        Run.open(tmp_path / "run")


def test_config_that_is_no_yaml(tmp_path):
    (tmp_path / "config.yaml").write_text("data: [\n")
    with pytest.raises(ValueError, match=r"config\.yaml") as error:
        Run.open(tmp_path)
    assert "\n" not in str(error.value)


def test_run_without_a_model(tmp_path):
    run = Run.create(make_config(), NAMES, tmp_path / "run")
    with pytest.raises(ValueError, match=r"no model\.keras.*Train again"):
        run.load_model()


def test_json_is_written(tmp_path):
    run = Run.create(make_config(), NAMES, tmp_path / "run")
    path = run.write_json("metrics.json", {"a": [1, None]})
    assert json.loads(path.read_text()) == {"a": [1, None]}


def test_sources_of_a_configuration():
    pairing = read_sources(make_config())
    assert pairing.modalities == {"dermoscopy": 3, "ct": 1}
    assert pairing.tasks == {"skin_lesion": 4, "ct_nodule": 3}
    expected = phantoms(n=100, image_size=16)
    for source, other in zip(pairing.sources, expected, strict=True):
        for name, images in source.modalities.items():
            np.testing.assert_array_equal(images, other.modalities[name])


def test_unknown_reader_lists_those_there_are():
    config = make_config(sources=[{"reader": "ham1000"}])
    with pytest.raises(ValueError, match=r"'ham1000'.*ham10000.*sipakmed"):
        read_sources(config)


@pytest.mark.parametrize("reader", ["ham10000", "sipakmed", "image_folder", "medmnist"])
def test_missing_data_folder_is_named(reader, tmp_path):
    config = make_config(
        sources=[{"reader": reader, "path": "nowhere"}], root=str(tmp_path)
    )
    with pytest.raises(ValueError, match="nowhere") as error:
        read_sources(config)
    assert "\n" not in str(error.value)


def test_channels_of_an_unknown_modality():
    with pytest.raises(ValueError, match=r"data\.channels.*'mri'.*'ct'"):
        read_sources(make_config(channels={"mri": 1}))


def test_unknown_option_of_a_reader():
    config = make_config(sources=[{"reader": "phantoms", "options": {"number": 9}}])
    with pytest.raises((ValueError, TypeError), match="number"):
        read_sources(config)


def test_splits_are_those_of_the_configuration():
    config = make_config(split=[0.6, 0.2, 0.2], split_seed=5)
    pairing = read_sources(config)
    splits, again = split_sources(pairing, config), split_sources(pairing, config)
    other = split_sources(pairing, make_config(split=[0.6, 0.2, 0.2], split_seed=6))
    assert splits.leakage == ()
    parts = zip(pairing.sources, splits.parts, again.parts, strict=True)
    for source, one, same in parts:
        one.assert_disjoint(source)
        np.testing.assert_array_equal(one.test, same.test)
        assert len(one.train) / len(source) == pytest.approx(0.6, abs=0.1)
    assert splits.parts[0].test.tolist() != other.parts[0].test.tolist()


def copies(name="copies"):
    """Thirty random images; 0 and 29 are the same, 1 and 28 nearly so."""
    generator = np.random.default_rng(0)
    images = generator.integers(1, 256, (30, 16, 16, 3), np.uint8)
    images[29] = images[0]
    images[28] = np.where(images[1] > 250, images[1], images[1] + 1)
    parts = ["train"] * 20 + ["val"] * 4 + ["test"] * 6
    return Source(
        name,
        {"skin": images},
        {"lesion": np.arange(30) % 2},
        {"lesion": ("a", "b")},
        official_split=parts,
    )


def test_copies_and_look_alikes_stay_together():
    pairing = pair([copies("iq_othnccd")])
    groups = split_sources(pairing, make_config()).parts[0].groups
    assert len(set(groups)) == 28
    assert groups[0] == groups[29]
    assert groups[1] == groups[28]
    groups = split_sources(pair([copies()]), make_config()).parts[0].groups
    assert len(set(groups)) == 28
    config = make_config(merge_groups_by=["exact"])
    groups = split_sources(pair([copies()]), config).parts[0].groups
    assert len(set(groups)) == 29


def test_a_leaking_split_is_refused_unless_allowed(tmp_path):
    pairing = pair([copies()])
    leaking = {"official_split": True, "merge_groups_by": []}
    message = r"identical images.*'copies/000000' in train.*--allow-leakage"
    with pytest.raises(ValueError, match=message):
        split_sources(pairing, make_config(**leaking))
    config = make_config(**leaking, allow_leakage=True)
    splits = split_sources(pairing, config)
    assert "identical images" in splits.leakage[0]
    run = Run.create(config, pairing.class_names, tmp_path / "run", splits.leakage)
    assert Run.open(run.folder).leakage == splits.leakage
    content = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert content["data"]["allow_leakage"] is True
    assert content["resolved"]["leakage"] == list(splits.leakage)


def test_splits_are_shared_and_read_back(tmp_path):
    pairing = pair([copies()])
    config = make_config(split_seed=3)
    run = Run.create(config, pairing.class_names, tmp_path / "run")
    splits = split_sources(pairing, config)
    splits.write(run, pairing)
    file = run.folder / "splits.json"
    for other in (
        read_splits(run, pairing),
        split_sources(pairing, make_config(split_file=str(file))),
    ):
        one, same = splits.parts[0], other.parts[0]
        assert one.to_json() == same.to_json()
        # The groups that were kept together are those of what is scored, too.
        test = other.take(pairing, "test").sources[0]
        np.testing.assert_array_equal(test.groups, one.groups[one.test])
    with pytest.raises(ValueError, match=r"splits\.json has no split for 'others'"):
        split_sources(pair([copies("others")]), make_config(split_file=str(file)))
    with pytest.raises(ValueError, match=r"split_file.*nowhere\.json"):
        split_sources(pairing, make_config(split_file="nowhere.json"))


def test_a_shared_split_that_leaks_is_refused(tmp_path):
    pairing = pair([copies()])
    rows = {"train": range(20), "val": range(20, 24), "test": range(24, 30)}
    ids = pairing.sources[0].ids
    table = {part: [ids[row] for row in these] for part, these in rows.items()}
    file = tmp_path / "splits.json"
    file.write_text(json.dumps({"copies": table}))
    with pytest.raises(ValueError, match="copies"):
        split_sources(pairing, make_config(split_file=str(file)))
    config = make_config(split_file=str(file), allow_leakage=True)
    assert "identical" in split_sources(pairing, config).leakage[0]


def test_images_are_loaded_where_they_fit():
    pairing = read_sources(make_config())
    assert load_images(pairing, make_config(image_size=8)).sources[0].modalities[
        "dermoscopy"
    ].shape == (100, 8, 8, 3)
    config = make_config(image_size=8, memory_limit_gib=1e-6)
    assert load_images(pairing, config) is pairing
