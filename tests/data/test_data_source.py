import dataclasses

import numpy as np
import pytest
from PIL import Image

from drifa_keras.data import Source


def test_defaults_and_take(make_source):
    source = make_source(6)
    assert len(source) == 6
    assert source.ids[3] == "toy/000003"
    assert source.groups.tolist() == source.ids.tolist()
    part = source.take([4, 0])
    assert part.ids.tolist() == ["toy/000004", "toy/000000"]
    assert part.modalities["skin"][0, 0, 0, 0] == 5
    assert part.class_names == source.class_names
    assert len(source.take(source.targets["label"] == 1)) == 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        source.name = "other"


def test_paths_give_relative_ids(tmp_path):
    paths = [str(tmp_path / "a" / "1.png"), str(tmp_path / "b" / "1.png")]
    source = Source("s", {"m": paths}, {"t": [0, 1]}, {"t": ("x", "y")})
    assert source.ids.tolist() == ["a/1.png", "b/1.png"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": {"label": [0, 1, 2, 0]}}, "label 2 at row 2"),
        ({"targets": {"label": [0, 1, -2, 0]}}, "label -2 at row 2"),
        ({"targets": {"label": [0, 1]}}, "task 'label' has 2"),
        ({"targets": {"label": [0.5, 1, 0, 1]}}, "whole numbers"),
        ({"targets": {}, "class_names": {}}, "no task"),
        ({"modalities": {}}, "no modality"),
        ({"modalities": {"skin": np.zeros((4, 8, 8, 3))}}, "expected uint8"),
        ({"modalities": {"skin": np.zeros((4, 8, 8), np.uint8)}}, "reshape"),
        ({"modalities": {"skin": np.zeros((4, 8, 8, 2), np.uint8)}}, "1 or 3"),
        ({"modalities": {"my skin": np.zeros((4, 8, 8, 3), np.uint8)}}, "my skin"),
        ({"modalities": {"skin": [1, 2, 3, 4]}}, "path strings"),
        ({"class_names": {"label": ("only",)}}, "at least two"),
        ({"class_names": {"other": ("a", "b")}}, "same tasks"),
        ({"ids": ["a", "b", "b", "c"]}, "'b' 2 times"),
        ({"groups": ["a"]}, "groups has 1"),
        ({"masks": {"other": np.zeros((4, 8, 8))}}, "name of a modality"),
        ({"official_split": ["train", "val", "test", "x"]}, "holds 'x'"),
    ],
)
def test_bad_fields_are_named(make_source, change, message):
    with pytest.raises(ValueError, match=message) as caught:
        make_source(4, **change)
    assert "\n" not in str(caught.value)


def test_take_outside(make_source):
    with pytest.raises(ValueError, match="has 4 cases"):
        make_source(4).take([4])


def test_load_decodes_resizes_and_keeps_absent_images_blank(tmp_path):
    paths = []
    for value in (50, 200):
        paths.append(str(tmp_path / f"{value}.png"))
        Image.new("RGB", (20, 10), (value, value, value)).save(paths[-1])
    source = Source(
        "s",
        {"photo": [*paths, None]},
        {"t": [0, 1, -1]},
        {"t": ("x", "y")},
        masks={"photo": np.ones((3, 10, 20))},
    )
    loaded = source.load((8, 6), channels={"photo": 1}, progress=False)
    images = loaded.modalities["photo"]
    assert images.shape == (3, 8, 6, 1) and images.dtype == np.uint8
    assert images[:, 3, 3, 0].tolist() == [50, 200, 0]
    assert loaded.masks["photo"].shape == (3, 8, 6)
    assert loaded.load((4, 4), progress=False).modalities["photo"].shape == (3, 4, 4, 1)
    with pytest.raises(ValueError, match="image_size"):
        source.load((8, 0))
    with pytest.raises(ValueError, match="'other'"):
        source.load((8, 8), channels={"other": 1})


def test_load_names_the_bad_file(tmp_path):
    good, bad = str(tmp_path / "good.png"), str(tmp_path / "bad.png")
    Image.new("RGB", (8, 8), (9, 9, 9)).save(good)
    (tmp_path / "bad.png").write_bytes(b"no image")
    source = Source("s", {"m": [good, bad]}, {"t": [0, 1]}, {"t": ("x", "y")})
    with pytest.raises(ValueError, match=r"bad\.png.*not an image"):
        source.load((8, 8), progress=False)
