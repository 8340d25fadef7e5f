import sys
import types

import numpy as np
import pytest
from PIL import Image

from drifa_keras.data.fetch import FetchError, fetch
from drifa_keras.data.readers import DATASETS


def fake(monkeypatch, name, **contents):
    monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(**contents))


def test_kaggle(tmp_path, monkeypatch):
    place = tmp_path / "versions" / "1" / "The IQ-OTHNCCD lung cancer dataset"
    for name in ("Bengin cases", "Malignant cases", "Normal cases"):
        (place / name).mkdir(parents=True)
        Image.new("L", (8, 8), 90).save(place / name / "a (1).jpg")
    asked = []

    def download(handle):
        asked.append(handle)
        return str(tmp_path / "versions" / "1")

    fake(monkeypatch, "kagglehub", dataset_download=download)
    before = sorted(tmp_path.rglob("*"))
    found = fetch("iq_othnccd")
    assert found == place and asked == ["hamdallak/the-iqothnccd-lung-cancer-dataset"]
    assert len(DATASETS["iq_othnccd"].read(found, verify=False)) == 3
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["ham10000", "sipakmed", "brats2020", "bloodmnist"])
def test_without_the_package(name, monkeypatch):
    for package in ("kagglehub", "medmnist"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(FetchError, match="not installed") as caught:
        fetch(name)
    text, facts = str(caught.value), DATASETS[name]
    for part in ("drifa_keras[fetch]", facts.page, facts.doi, facts.licence):
        assert part in text
    assert (facts.kaggle or "") in text and "\n" not in text


def test_failures_are_one_line(tmp_path, monkeypatch):
    def offline(handle):
        raise ConnectionError("no\nroute " + "x" * 5_000)

    fake(monkeypatch, "kagglehub", dataset_download=offline)
    with pytest.raises(FetchError, match="ConnectionError: no route") as caught:
        fetch("ham10000")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 800
    fake(monkeypatch, "kagglehub", dataset_download=lambda handle: str(tmp_path))
    with pytest.raises(FetchError, match="does not hold HAM10000/HAM10000_metadata"):
        fetch("ham10000")
    # An archive is left as it is, whatever it holds.
    (tmp_path / "archive.zip").write_bytes(b"PK")
    with pytest.raises(FetchError, match=r"archive\.zip is still packed: unpack it"):
        fetch("ham10000")
    assert [path.name for path in tmp_path.iterdir()] == ["archive.zip"]


@pytest.mark.parametrize(("size", "ending"), [(28, ""), (64, "_64")])
def test_medmnist(tmp_path, monkeypatch, size, ending):
    class BloodMNIST:
        def __init__(self, split, download, root, **options):
            assert download and options == ({} if size == 28 else {"size": size})
            self.root = root
            arrays = {}
            for part in ("train", "val", "test"):
                arrays[f"{part}_images"] = np.full((2, size, size, 3), 9, np.uint8)
                arrays[f"{part}_labels"] = np.array([[0], [1]], np.uint8)
            np.savez(f"{root}/bloodmnist{ending}.npz", **arrays)

    fake(monkeypatch, "medmnist", BloodMNIST=BloodMNIST)
    path = fetch("bloodmnist", size=size, folder=tmp_path / "new")
    assert path == tmp_path / "new" / f"bloodmnist{ending}.npz"
    assert len(DATASETS["bloodmnist"].read(path, verify=False)) == 6


def test_medmnist_failure(monkeypatch):
    def broken(**options):
        raise RuntimeError("Something went wrong when downloading!")

    fake(monkeypatch, "medmnist", PathMNIST=broken)
    with pytest.raises(FetchError, match=r"went wrong.*https://medmnist\.com"):
        fetch("pathmnist")


def test_bad_arguments():
    with pytest.raises(ValueError, match="Unknown data set 'imagenet'.*ham10000"):
        fetch("imagenet")
    with pytest.raises(ValueError, match="size=32: expected one of 28, 64"):
        fetch("pathmnist", size=32)
    with pytest.raises(ValueError, match="for MedMNIST"):
        fetch("ham10000", size=64)
