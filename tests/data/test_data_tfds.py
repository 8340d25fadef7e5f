"""TFDS: the builders in `datasets/`, and reading what TFDS has prepared."""

import importlib
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from drifa_keras.configs import parse_config
from drifa_keras.data import DATASETS, brats2020, merge_groups, read, split
from drifa_keras.data.readers.tfds_folder import tfds_folder
from drifa_keras.runs import Run

pytest.importorskip("tensorflow", reason="TFDS writes and reads with TensorFlow")
tfds = pytest.importorskip("tensorflow_datasets", reason="TFDS is an extra")
pytest.importorskip("dill", reason="tfds.testing imports it, and does not require it")

FOLDER = Path(__file__).parents[2] / "datasets"
NAMES = ("ham10000", "sipakmed", "brain_tumor_mri", "iq_othnccd", "brats2020")
PARTS = {"train": "train", "validation": "val", "test": "test"}

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*differs from what was published"),
    pytest.mark.skipif(not FOLDER.is_dir(), reason="no folder of builders"),
]


def load(module):
    """Import as `tfds build` does: with the folder of builders on the path."""
    with tfds.core.utils.add_sys_path(FOLDER):
        return importlib.import_module(module)


def builder_class(name):
    if name == "brats2020":
        pytest.importorskip("nibabel")
    return load(f"{name}.{name}_dataset_builder").Builder


class Dummy:
    """Makes the dummy data of a builder for the tests that TFDS has for it."""

    NAME: str

    @classmethod
    def setUpClass(cls):
        cls.DATASET_CLASS = builder_class(cls.NAME)
        cls.EXAMPLE_DIR = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.EXAMPLE_DIR)
        load("make_dummy_data").MAKERS[cls.NAME](Path(cls.EXAMPLE_DIR))
        super().setUpClass()


# Of ten equal groups a class, one goes to validation and one to test.
class TestHam10000(Dummy, tfds.testing.DatasetBuilderTestCase):
    NAME = "ham10000"
    SPLITS: ClassVar = {"train": 8 * 7 * 2, "validation": 7 * 2, "test": 7 * 2}


class TestSipakmed(Dummy, tfds.testing.DatasetBuilderTestCase):
    NAME = "sipakmed"
    SPLITS: ClassVar = {"train": 8 * 5 * 2, "validation": 5 * 2, "test": 5 * 2}


class TestBrainTumorMri(Dummy, tfds.testing.DatasetBuilderTestCase):
    NAME = "brain_tumor_mri"
    SPLITS: ClassVar = {"train": 8 * 4, "validation": 4, "test": 4}


class TestIqOthnccd(Dummy, tfds.testing.DatasetBuilderTestCase):
    NAME = "iq_othnccd"
    SPLITS: ClassVar = {"train": 8 * 3, "validation": 3, "test": 3}


# Nine subjects of six slices; 201 : 35 : 133 is nearest to 5 : 1 : 3.
class TestBrats2020(Dummy, tfds.testing.DatasetBuilderTestCase):
    NAME = "brats2020"
    SPLITS: ClassVar = {"train": 5 * 6, "validation": 6, "test": 3 * 6}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """A folder with the dummy data of all data sets."""
    root = tmp_path_factory.mktemp("raw")
    for make in load("make_dummy_data").MAKERS.values():
        make(root)
    return root


@pytest.fixture(scope="module")
def prepared(raw, tmp_path_factory):
    """From a name to the prepared data set."""
    data_dir = tmp_path_factory.mktemp("prepared")
    config = tfds.download.DownloadConfig(manual_dir=raw)
    done = {}

    def prepare(name):
        if name not in done:
            done[name] = builder_class(name)(data_dir=data_dir)
            done[name].download_and_prepare(download_config=config)
        return done[name]

    return prepare


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A data set that TFDS brings: grey 28 x 28 noise of ten classes."""
    builder = tfds.testing.DummyMnist(data_dir=tmp_path_factory.mktemp("foreign"))
    builder.download_and_prepare()
    return builder


@pytest.mark.parametrize("name", NAMES)
def test_facts_agree_with_the_registry(name):
    cls, facts = builder_class(name), DATASETS[name]
    for fact in (facts.layout, facts.kaggle, facts.page, facts.doi, facts.licence):
        assert fact in cls.MANUAL_DOWNLOAD_INSTRUCTIONS
    metadata = cls.get_metadata()
    cited = re.findall(r"(?:doi|arXiv):([^\s;)]*[\w])", facts.citation)
    assert cited
    for number in {*cited, facts.doi}:
        assert number in metadata.citation
    assert f"{facts.images:,}" in metadata.description
    assert "content.data-type.image" in metadata.tags
    assert cls.url_infos == {}  # the file is there and names no download
    assert str(cls.VERSION) in cls.RELEASE_NOTES


@pytest.mark.parametrize("name", NAMES)
def test_splits_are_ours(name, raw, prepared):
    builder = prepared(name)
    source = merge_groups(read(name, raw))
    wanted = split(source, seed=0).to_dict()
    group = dict(zip(source.ids, source.groups, strict=True))
    assert set(builder.info.splits) == set(PARTS)
    for split_name, part in PARTS.items():
        examples = list(tfds.as_numpy(builder.as_dataset(split=split_name)))
        ids = [example["id"].decode() for example in examples]
        assert sorted(ids) == sorted(wanted[part])
        assert {example["split"].decode() for example in examples} == {part}
        assert [e["group"].decode() for e in examples] == [group[i] for i in ids]
    assert ("official_split" in builder.info.features) == (
        source.official_split is not None
    )


@pytest.mark.parametrize("name", NAMES)
def test_there_and_back(name, raw, prepared):
    size = (20, 24)
    source = merge_groups(read(name, raw)).load(size)
    back = tfds_folder(prepared(name).data_dir, image_size=size)
    assert back.name == name
    assert back.ids.tolist() == source.ids.tolist()
    assert back.groups.tolist() == source.groups.tolist()
    assert back.class_names == source.class_names
    for task, labels in source.targets.items():
        assert back.targets[task].tolist() == labels.tolist()
    assert set(back.modalities) == set(source.modalities)
    for modality, pixels in source.modalities.items():
        np.testing.assert_array_equal(back.modalities[modality], pixels)
    # With rows in one order, one seed gives one split.
    assert split(back, seed=3).to_dict() == split(source, seed=3).to_dict()
    official = back.official_split.tolist()
    if source.official_split is not None:
        assert official == source.official_split.tolist()
    else:
        assert split(back, official=True).to_dict() == split(source).to_dict()


def test_look_alikes_share_a_group(raw, tmp_path):
    shutil.copytree(raw / "The IQ-OTHNCCD lung cancer dataset", tmp_path / "raw")
    folder = tmp_path / "raw" / "Normal cases"
    shutil.copy(folder / "Normal case (1).jpg", folder / "Normal case (99).jpg")
    builder = builder_class("iq_othnccd")(data_dir=tmp_path)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=tmp_path / "raw")
    )
    source = tfds_folder(builder.data_dir)
    names, counts = np.unique(source.groups, return_counts=True)
    assert names[counts > 1].tolist() == ["Normal cases/Normal case (1).jpg"]
    copies = source.take(source.groups == "Normal cases/Normal case (1).jpg")
    assert len(set(copies.official_split)) == 1


def test_mask_holds_the_labels_and_becomes_the_whole_tumour(raw, prepared):
    builder = prepared("brats2020")
    example = next(iter(tfds.as_numpy(builder.as_dataset(split="train"))))
    masks = [e["mask"] for e in tfds.as_numpy(builder.as_dataset(split="train"))]
    assert example["mask"].shape == (24, 20, 1)
    assert np.unique(masks).tolist() == [0, 1, 2, 4]
    # Of a subject: 4 slices of 4 x 6 voxels, of which 2 of 2 x 3, of which one voxel.
    counts = np.bincount(np.ravel(masks))
    assert counts[[1, 2, 4]].tolist() == [5 * 11, 5 * 84, 5]
    for size in (None, (12, 10)):
        source = brats2020(raw, region="WT", image_size=size)
        back = tfds_folder(builder.data_dir, image_size=size)
        assert set(back.masks) == set(source.modalities)
        for modality, mask in back.masks.items():
            assert mask.dtype == bool
            np.testing.assert_array_equal(mask, source.masks[modality])


def test_data_sets_of_others(foreign):
    source = tfds_folder(foreign.data_dir)
    assert source.name == "dummy_mnist" and len(source) == 40
    assert source.modalities["image"].shape == (40, 28, 28, 1)
    assert len(source.class_names["label"]) == 10
    assert source.official_split.tolist() == ["train"] * 20 + ["test"] * 20
    assert source.ids[0] == "dummy_mnist/000000"
    assert source.groups.tolist() == source.ids.tolist()
    first = next(iter(tfds.as_numpy(foreign.as_dataset(split="train"))))
    np.testing.assert_array_equal(source.modalities["image"][0], first["image"])
    assert source.targets["label"][0] == first["label"]

    above = Path(foreign.data_dir).parents[1]
    small = tfds_folder(above, modality="digit", task="value", image_size=(8, 9))
    assert small.modalities["digit"].shape == (40, 8, 9, 1)
    assert list(small.targets) == ["value"]


def test_mistakes_are_named(foreign, prepared, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"not found: .*gone does not exist.*tfds b"):
        tfds_folder(tmp_path / "gone")
    for name in ("ham10000", "sipakmed"):
        prepared(name)
    several = Path(prepared("ham10000").data_dir).parents[1]
    with pytest.raises(ValueError, match=r"several prepared.*ham10000/1\.0\.0"):
        tfds_folder(several)
    with pytest.raises(ValueError, match="differ in size.*pass image_size"):
        tfds_folder(several / "sipakmed")
    with pytest.raises(ValueError, match=r"limit_gib=1e-06: pass image_size"):
        tfds_folder(foreign.data_dir, limit_gib=1e-6)
    with pytest.raises(ValueError, match=r"modality='mri'.*several: .*flair"):
        tfds_folder(prepared("brats2020").data_dir, modality="mri")
    plain = tfds.testing.DummyDataset(data_dir=tmp_path)
    plain.download_and_prepare()
    with pytest.raises(ValueError, match=r"has no Image among its features \['id'\]"):
        tfds_folder(plain.data_dir)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'drifa_keras\[tfds\]'"):
        tfds_folder(foreign.data_dir)


def test_training_runs_on_it(prepared, tmp_path):
    from drifa_keras.training import train

    sources = [
        {
            "reader": "tfds_folder",
            "path": str(prepared(name).data_dir),
            "options": {"image_size": [16, 16]},
        }
        for name in ("ham10000", "sipakmed")
    ]
    config = parse_config(
        {
            "data": {"sources": sources, "image_size": 16, "merge_groups_by": []},
            "model": {
                "preset": "drifa_tiny",
                "arguments": {
                    "filters": [4],
                    "dropout_after": [],
                    "mfa": False,
                    "mifa": False,
                },
            },
            "training": {"epochs": 1, "batch_size": 4, "pairs_per_epoch": 4},
        }
    )
    run = train(config, tmp_path / "run", verbose=0)
    assert run.load_model().tasks == {"skin_lesion": 7, "cervical_cell": 5}
    saved = Run.open(run.folder).read_json("splits.json")
    for name in ("ham10000", "sipakmed"):
        test = prepared(name).as_dataset(split="test")
        ids = [example["id"].decode() for example in tfds.as_numpy(test)]
        assert sorted(saved[name]["test"]) == sorted(ids)
