"""Brain Tumor MRI and IQ-OTH/NCCD, the verification of counts, and the registry."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from drifa_keras.data import Source, read, split
from drifa_keras.data.leakage.groups import MEASURES
from drifa_keras.data.readers import DATASETS, READERS, Dataset

TUMOURS = ("glioma", "meningioma", "notumor", "pituitary")
PAPER_SETS = ("ham10000", "sipakmed", "brain_tumor_mri", "iq_othnccd", "brats2020")


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), (100, 90, 50)).save(path)


def brain(root, per_class=3):
    for part, prefix in (("Training", "Tr"), ("Testing", "Te")):
        for name in TUMOURS:
            for i in range(per_class):
                save(root / part / name / f"{prefix}-{name[:2]}_{i:04d}.jpg")
    return root


def lung(root, benign="Bengin cases"):
    for name in (benign, "Malignant cases", "Normal cases"):
        for i in (1, 2):
            save(root / name / f"{name[:-1]} ({i}).jpg")
    (root / "IQ-OTH_NCCD lung cancer dataset.txt").write_text("about")
    save(root / "Test cases" / "000019.png")
    return root


@pytest.mark.parametrize(
    "place", ["", "brain-tumor-mri-dataset", "Brain Tumor MRI Dataset/brain_tumor_mri"]
)
def test_brain_tumor_layouts(tmp_path, place):
    folder = brain(tmp_path / place)
    source = read("brain_tumor_mri", tmp_path, verify=False)
    assert source.class_names["brain_tumor"] == TUMOURS
    assert np.bincount(source.targets["brain_tumor"]).tolist() == [6] * 4
    assert source.ids[0] == "Training/glioma/Tr-gl_0000.jpg"
    assert (folder / source.ids[0]).is_file()
    for name, part in zip(source.ids, source.official_split, strict=True):
        assert part == ("train" if name.startswith("Training/") else "test")
    with pytest.warns(UserWarning, match="'brain_tumor_mri' leaks"):
        parts = split(source, official=True)
    assert [len(rows) for rows in parts.parts().values()] == [12, 0, 12]


def test_the_official_split_of_brain_tumor_is_marked():
    leaky = [name for name, facts in DATASETS.items() if facts.official_split_leaks]
    assert leaky == ["brain_tumor_mri", "dermamnist"]
    assert "216 Testing images" in DATASETS["brain_tumor_mri"].official_split


@pytest.mark.parametrize("benign", ["Bengin cases", "Benign cases", "bengin Cases"])
def test_lung_spellings(tmp_path, benign):
    lung(tmp_path / "The IQ-OTHNCCD lung cancer dataset", benign)
    source = read("iq_othnccd", tmp_path, verify=False)
    assert source.class_names["lung_finding"] == ("benign", "malignant", "normal")
    assert source.targets["lung_finding"].tolist() == [0, 0, 1, 1, 2, 2]
    assert source.ids[0].startswith(benign)


@pytest.mark.parametrize("name", PAPER_SETS)
def test_nothing_there_says_what_and_whence(tmp_path, name):
    facts = DATASETS[name]
    (tmp_path / "empty").mkdir()
    for place in ("empty", "nowhere"):
        assert not facts.present(tmp_path / place)
        with pytest.raises(ValueError, match="not found") as caught:
            read(name, tmp_path / place)
        text = str(caught.value)
        for part in (facts.title, facts.kaggle, facts.doi, facts.licence, facts.layout):
            assert part in text
        assert "\n" not in text


def test_an_absent_class_is_an_error(tmp_path):
    folder = brain(tmp_path / "a")
    for path in (folder / "Testing" / "notumor").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="no images in Testing/notumor.*masoudnick"):
        read("brain_tumor_mri", folder)
    folder = lung(tmp_path / "b")
    for path in (folder / "Bengin cases").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="'Bengin cases or Benign cases'.*hamdallak"):
        read("iq_othnccd", folder)


def test_counts_that_differ_are_one_warning(tmp_path, recwarn):
    lung(tmp_path)
    read("iq_othnccd", tmp_path)
    assert len(recwarn) == 1
    text = str(recwarn[0].message)
    assert "benign 2 of 120, malignant 2 of 561, normal 2 of 416" in text
    assert "\n" not in text and "verify=False" in text
    assert recwarn[0].filename == __file__  # points at the caller, not at the reader
    recwarn.clear()
    read("iq_othnccd", tmp_path, verify=False)
    assert not recwarn


def test_facts_are_complete():
    assert set(PAPER_SETS) <= set(DATASETS) and set(PAPER_SETS) <= set(READERS)
    optional = {"official_split", "official_split_leaks", "kaggle", "merge_groups_by"}
    for name, facts in DATASETS.items():
        assert name == facts.name and facts.reader in READERS.values()
        empty = [
            field.name
            for field in dataclasses.fields(Dataset)
            if field.name not in optional and not getattr(facts, field.name)
        ]
        assert not empty, f"{name} lacks {empty}"
        assert facts.kaggle or facts.reader is READERS["medmnist"]
        assert sum(facts.counts.values()) == facts.images
        assert set(facts.merge_groups_by) <= set(MEASURES)
        assert sum(facts.split) == pytest.approx(1)
        with pytest.raises(dataclasses.FrozenInstanceError):
            facts.name = "other"


def test_medmnist_facts_read_a_file(tmp_path, recwarn):
    arrays = {}
    for part in ("train", "val", "test"):
        arrays[f"{part}_images"] = np.full((3, 28, 28), 9, np.uint8)
        arrays[f"{part}_labels"] = np.arange(3, dtype=np.uint8)[:, None]
    facts = DATASETS["organcmnist"]
    assert not facts.present(tmp_path)
    np.savez(tmp_path / "organcmnist_64.npz", **arrays)
    assert facts.present(tmp_path)
    assert facts.present(tmp_path / "organcmnist_64.npz")
    assert len(facts.read(tmp_path)) == 9
    assert "train 3 of 12,975" in str(recwarn[0].message) and len(recwarn) == 1


def test_real_brain_tumor(data_root, recwarn):
    source = read("brain_tumor_mri", data_root)
    assert isinstance(source, Source) and len(source) == 7_023
    labels = source.targets["brain_tumor"]
    train = source.official_split == "train"
    assert np.bincount(labels[train]).tolist() == [1321, 1339, 1595, 1457]
    assert np.bincount(labels[~train]).tolist() == [300, 306, 405, 300]
    assert not recwarn
    few = source.take(np.arange(0, 7_023, 400)).load((32, 32), progress=False)
    assert few.modalities["mri"].std() > 20


def test_real_lung(data_root, recwarn):
    source = read("iq_othnccd", data_root)
    assert np.bincount(source.targets["lung_finding"]).tolist() == [120, 561, 416]
    assert not recwarn
    few = source.take(np.arange(0, 1_097, 100)).load((32, 32), progress=False)
    assert few.modalities["ct"].std() > 20


def test_real_counts_hold_for_the_others(data_root, recwarn):
    for name in ("ham10000", "sipakmed"):
        assert len(read(name, data_root)) == DATASETS[name].images
    assert not recwarn
