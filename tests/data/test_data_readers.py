import csv

import numpy as np
import pytest
from PIL import Image

from drifa_keras import data
from drifa_keras.data import READERS, read


def save(path, value=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), (value, value, 50)).save(path)


@pytest.fixture
def ham(tmp_path):
    """A small HAM10000: two images of each class, every third lesion twice."""
    root = tmp_path / "HAM10000"
    rows = []
    classes = ("nv", "mel", "bkl", "bcc", "akiec", "vasc", "df")
    for i in range(14):
        name = f"ISIC_{i:07d}"
        save(root / f"HAM10000_images_part_{1 + i % 2}" / f"{name}.jpg")
        rows.append([f"HAM_{i // 2:07d}", name, classes[i // 2], "histo"])
    with (root / "HAM10000_metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["lesion_id", "image_id", "dx", "dx_type"], *rows])
    return root


def test_ham_layouts(ham):
    first = read("ham10000", ham.parent, verify=False)
    assert len(first) == 14 and len(set(first.groups)) == 7
    assert first.class_names["skin_lesion"] == (
        *("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"),
    )
    assert first.ids[0] == "HAM10000_images_part_1/ISIC_0000000.jpg"
    assert first.targets["skin_lesion"][0] == 5
    # Kaggle's archive also holds a second, lower-case copy of a part.
    save(ham / "ham10000_images_part_1" / "ISIC_0000000.jpg")
    assert len(read("ham10000", ham, verify=False)) == 14
    together = ham / "HAM10000_images"
    together.mkdir()
    for path in list(ham.glob("*part*/*.jpg")):
        path.rename(together / path.name)
    for path in ham.glob("*part*"):
        path.rmdir()
    moved = data.ham10000(ham, modality="skin", task="dx", verify=False)
    assert moved.ids[0] == "HAM10000_images/ISIC_0000000.jpg"
    assert list(moved.modalities) == ["skin"] and list(moved.targets) == ["dx"]


def test_ham_problems_say_the_remedy(ham, tmp_path):
    (tmp_path / "empty").mkdir()
    for place in ("empty", "nowhere"):
        with pytest.raises(ValueError) as caught:
            read("ham10000", tmp_path / place)
        for part in (place, "HAM10000_images_part_1", "kmader", "DBW86T", "CC BY-NC"):
            assert part in str(caught.value)
        assert "\n" not in str(caught.value)
    next(ham.glob("*part_2/*.jpg")).unlink()
    with pytest.raises(ValueError, match="lacks 1 of the 14 images.*kmader"):
        read("ham10000", ham)
    text = (ham / "HAM10000_metadata.csv").read_text()
    (ham / "HAM10000_metadata.csv").write_text(text.replace("mel,", "melanoma,"))
    with pytest.raises(ValueError, match="diagnosis 'melanoma'"):
        read("ham10000", ham)
    (ham / "HAM10000_metadata.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no column 'dx'"):
        read("ham10000", ham)


CELLS = (
    *("Dyskeratotic", "Koilocytotic", "Metaplastic"),
    *("Parabasal", "Superficial-Intermediate"),
)


@pytest.mark.parametrize("nested", [True, False])
def test_sipakmed_layouts(tmp_path, nested):
    root = tmp_path / "SIPaKMeD"
    for name in CELLS:
        place = root / f"im_{name}"
        place = (place / f"im_{name}" if nested else place) / "CROPPED"
        for cell in ("001_01", "001_02", "002_01"):
            save(place / f"{cell}.bmp")
        save(place / "001_01.jpg")  # a copy of a cell is not a second cell
        (place / "001_01.dat").write_text("contour")
        save(place.parent / "001.bmp")  # the uncropped cluster image
    source = read("sipakmed", tmp_path, verify=False)
    assert len(source) == 15 and len(set(source.groups)) == 10
    assert source.class_names["cervical_cell"] == CELLS
    assert source.groups[0] == "Dyskeratotic/001"
    assert all(name.endswith(".bmp") for name in source.ids)
    assert np.bincount(source.targets["cervical_cell"]).tolist() == [3] * 5
    assert len(read("sipakmed", root, verify=False)) == 15


def test_sipakmed_problems_say_the_remedy(tmp_path):
    with pytest.raises(ValueError, match="prahladmehandiratta.*ICIP.2018"):
        read("sipakmed", tmp_path)
    save(tmp_path / "im_Parabasal" / "CROPPED" / "001_01.bmp")
    with pytest.raises(ValueError, match="no cells of class 'Dyskeratotic'"):
        read("sipakmed", tmp_path)


def test_image_folder(tmp_path):
    for name in ("b/p1_x.png", "b/deep/p2_x.JPG", "a/p1_y.bmp", "a/.hidden.png"):
        save(tmp_path / "mine" / name)
    (tmp_path / "mine" / "a" / "notes.txt").write_text("stray")
    (tmp_path / "mine" / ".cache").mkdir()
    source = read("image_folder", tmp_path / "mine", groups=r"/(p\d+)_")
    assert source.name == "mine"
    assert source.ids.tolist() == ["a/p1_y.bmp", "b/deep/p2_x.JPG", "b/p1_x.png"]
    assert source.targets["label"].tolist() == [0, 1, 1]
    assert source.class_names["label"] == ("a", "b")
    assert source.groups.tolist() == ["p1", "p2", "p1"]
    for pattern, message in [
        ("x", "no capture"),
        ("(zz)", "does not match"),
        ("(", "no regular"),
    ]:
        with pytest.raises(ValueError, match=message):
            read("image_folder", tmp_path / "mine", groups=pattern)


def test_image_folder_problems(tmp_path):
    with pytest.raises(ValueError, match="not found.*does not exist"):
        read("image_folder", tmp_path / "gone")
    save(tmp_path / "a" / "1.png")
    with pytest.raises(ValueError, match="1 class folder"):
        read("image_folder", tmp_path)
    (tmp_path / "b").mkdir()
    with pytest.raises(ValueError, match=r"class folder .*b holds no image"):
        read("image_folder", tmp_path)


def medmnist_arrays(shape=(28, 28, 3)):
    rng = np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", 6), ("val", 3), ("test", 3)):
        arrays[f"{part}_images"] = rng.integers(1, 255, (n, *shape), dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(n) % 3)[:, None].astype(np.uint8)
    return arrays


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3)])
def test_medmnist(tmp_path, shape):
    arrays = medmnist_arrays(shape)
    np.savez(tmp_path / "bloodmnist.npz", **arrays)
    source = read("medmnist", tmp_path / "bloodmnist.npz", verify=False)
    channels = 3 if len(shape) == 3 else 1
    assert source.modalities["bloodmnist"].shape == (12, 28, 28, channels)
    assert source.class_names["bloodmnist"] == ("0", "1", "2")
    parts = data.split(source, official=True)
    assert [len(rows) for rows in parts.parts().values()] == [6, 3, 3]
    assert source.ids[parts.test].tolist()[0] == "test/000000"
    assert np.array_equal(
        source.take(parts.val).modalities["bloodmnist"].reshape(3, *shape),
        arrays["val_images"],
    )


def test_medmnist_problems(tmp_path):
    path = tmp_path / "x.npz"
    with pytest.raises(ValueError, match="not found"):
        read("medmnist", path)
    path.write_bytes(b"PK no zip")
    with pytest.raises(ValueError, match="cannot be read"):
        read("medmnist", path)
    arrays = medmnist_arrays()
    np.savez(path, **{k: v for k, v in arrays.items() if k != "val_labels"})
    with pytest.raises(ValueError, match="has no val_labels"):
        read("medmnist", path)
    np.savez(path, **{**arrays, "train_labels": np.zeros((6, 14), np.uint8)})
    with pytest.raises(ValueError, match="multi-label"):
        read("medmnist", path)
    np.savez(path, **medmnist_arrays((28, 28, 28)))
    with pytest.raises(ValueError, match="3-D sets"):
        read("medmnist", path)
    np.savez(path, **{**arrays, "train_labels": np.full((6, 1), np.nan)})
    with pytest.raises(ValueError, match="labels of dtype float64"):
        read("medmnist", path)
    np.savez(path, **{**arrays, "train_labels": np.full((6, 1), 2**40)})
    with pytest.raises(ValueError, match="expected 0..255"):
        read("medmnist", path)
    np.savez(path, **{**arrays, "train_labels": arrays["train_labels"][:5]})
    with pytest.raises(ValueError, match="6 train_images and 5 train_labels"):
        read("medmnist", path)
    objects = np.empty((6, 1), object)
    np.savez(path, **{**arrays, "train_labels": objects})
    with pytest.raises(ValueError, match="cannot be read"):
        read("medmnist", path)


def test_registry():
    assert sorted(READERS) == [
        *("brain_tumor_mri", "brats2020", "ham10000", "image_folder"),
        *("iq_othnccd", "medmnist", "sipakmed", "tfds_folder"),
    ]
    with pytest.raises(ValueError, match="'ham'.*ham10000"):
        read("ham", ".")


def test_real_ham10000(data_root):
    source = read("ham10000", data_root)
    assert len(source) == 10_015 and len(np.unique(source.groups)) == 7_470
    counts = np.bincount(source.targets["skin_lesion"]).tolist()
    assert counts == [327, 514, 1099, 115, 1113, 6705, 142]
    parts = data.split(source)
    parts.assert_disjoint(source)
    for rows, share in zip(parts.parts().values(), (0.8, 0.1, 0.1), strict=True):
        got = np.bincount(source.targets["skin_lesion"][rows]) / counts
        assert np.abs(got - share).max() < 0.03
    few = source.take(np.arange(0, 10_015, 500)).load((32, 32), progress=False)
    assert few.modalities["dermoscopy"].std() > 20


def test_real_sipakmed(data_root):
    source = read("sipakmed", data_root)
    assert len(source) == 4_049 and len(np.unique(source.groups)) == 966
    counts = np.bincount(source.targets["cervical_cell"]).tolist()
    assert counts == [813, 825, 793, 787, 831]
    data.split(source, seed=1).assert_disjoint(source)


def test_real_original_bmp(data_root):
    source = read("sipakmed", data_root / "SIPaKMeD_original_bmp_sample", verify=False)
    assert len(source) == 30 and all(name.endswith(".bmp") for name in source.ids)
    images = source.load((48, 48), progress=False).modalities["pap_smear"]
    assert images.shape == (30, 48, 48, 3) and images.std() > 10
