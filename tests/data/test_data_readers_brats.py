"""BraTS 2020: volumes, slices, regions, and what is refused."""

import gzip
import sys

import numpy as np
import pytest

from drifa_keras.configs import load_config
from drifa_keras.data import read, split
from drifa_keras.data.readers import brats2020, brats2020_slices
from drifa_keras.data.volumes import read_volume, region, to_pixels, to_z
from drifa_keras.runs import read_sources

nibabel = pytest.importorskip("nibabel")

SHAPE = (20, 24, 8)  # x, y, z
AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])


def write(path, values, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


def subject(root, number=1, shape=SHAPE, suffix=".nii.gz", seed=0):
    """A brain in all but the first and last slice, with the three labels in it."""
    rng = np.random.default_rng(seed + number)
    name = f"BraTS20_Training_{number:03d}"
    brain = np.zeros(shape, bool)
    brain[4:-4, 4:-4, 1:-1] = True
    for modality in ("flair", "t1", "t1ce", "t2"):
        values = np.where(brain, rng.integers(50, 900, shape), 0).astype(np.int16)
        write(root / name / f"{name}_{modality}{suffix}", values)
    labels = np.zeros(shape, np.uint8)
    labels[6:10, 6:12, 2:6] = 2
    labels[7:9, 7:10, 3:5] = 1
    labels[7, 7, 4] = 4
    write(root / name / f"{name}_seg{suffix}", labels)
    return root / name


@pytest.fixture
def brats(tmp_path):
    root = tmp_path / "BraTS2020_TrainingData" / "MICCAI_BraTS2020_TrainingData"
    subject(root, 1)
    subject(root, 2, suffix=".nii")
    return tmp_path


def test_slices(brats):
    source = read("brats2020", brats, verify=False)
    assert sorted(source.modalities) == ["flair", "t1", "t1ce", "t2"]
    assert len(source) == 12  # the first and the last slice show no brain
    assert source.modalities["t1"].shape == (12, 24, 20, 1)  # rows are y
    assert source.groups.tolist() == [
        *(["BraTS20_Training_001"] * 6 + ["BraTS20_Training_002"] * 6)
    ]
    assert source.ids[0] == "BraTS20_Training_001/z001"
    assert source.targets["tumor"].tolist() == [0, 1, 1, 1, 1, 0] * 2
    assert source.class_names["tumor"] == ("absent", "present")
    assert source.masks["flair"].sum() == 2 * 4 * 24
    parts = split(source, (0.5, 0.0, 0.5))
    assert len(parts.train) == len(parts.test) == 6


def test_regions_and_orientation(brats):
    slices = brats2020_slices(brats, verify=False)
    assert slices.regions.shape == (12, 24, 20, 3)
    assert slices.regions[:6].sum((0, 1, 2)).tolist() == [96, 12, 1]
    assert slices.z.tolist() == [1, 2, 3, 4, 5, 6] * 2
    assert np.argwhere(slices.region("ET")[3]).tolist() == [[7, 7]]
    rows, columns = np.nonzero(slices.region("WT")[3])
    assert (rows.max(), columns.max()) == (11, 9)  # y runs down, x across
    for name, total in (("WT", 96), ("TC", 12), ("ET", 1)):
        source = brats2020(brats, region=name, verify=False)
        assert source.masks["t2"][:6].sum() == total
    assert not brats2020(brats, region=None, verify=False).masks
    assert region(np.array([0, 1, 2, 4]), "TC").tolist() == [False, True, False, True]


CLASSES = ("background", "necrotic core", "oedema", "enhancing tumour")


def test_segmentation(brats):
    slices = brats2020_slices(brats, verify=False)
    source = read("brats2020", brats, segmentation=True, task="seg", verify=False)
    assert source.maps == ("seg",) and source.class_names == {"seg": CLASSES}
    assert source.regions == {"seg": {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}}
    maps = source.targets["seg"]
    assert maps.dtype == np.int8 and maps.shape == (12, 24, 20)
    for label, number in ((0, 0), (1, 1), (2, 2), (4, 3)):
        assert np.array_equal(maps == number, slices.labels == label)
    for name, numbers in source.regions["seg"].items():
        assert np.array_equal(np.isin(maps, numbers), slices.region(name))
    plain = brats2020(brats, verify=False)
    assert np.array_equal(source.modalities["t2"], plain.modalities["t2"])
    assert np.array_equal(source.masks["t2"], plain.masks["t2"])
    assert source.case_labels("seg")[0].tolist() == plain.targets["tumor"].tolist()
    parts, expected = (split(s, (0.5, 0.0, 0.5)) for s in (source, plain))
    assert np.array_equal(parts.train, expected.train)


def test_segmentation_at_another_size(brats):
    options = {"image_size": (12, 10), "region": None, "verify": False}
    source = brats2020(brats, segmentation=True, **options)
    whole = brats2020(brats, segmentation=True, region=None, verify=False)
    assert np.array_equal(
        source.targets["tumor"], whole.targets["tumor"][:, 1::2, 1::2]
    )
    assert source.modalities["t1"].shape == (12, 12, 10, 1) and not source.masks


def test_an_unknown_label_is_refused(brats):
    seg = next(brats.rglob("BraTS20_Training_002_seg.nii"))
    labels = np.array(nibabel.load(seg).dataobj)
    labels[7, 7, 4] = 3
    write(seg, labels)
    with pytest.raises(ValueError, match=r"002_seg\.nii has the label 3: expected onl"):
        brats2020(brats, segmentation=True, verify=False)


def test_label_maps_count_in_the_memory(brats):
    needed = 2 * 8 * 20 * 24 * 6 / 2**30  # two subjects: four images, labels, maps
    options = {"segmentation": True, "region": None, "verify": False}
    brats2020(brats, limit_gib=needed * 1.01, **options)
    with pytest.raises(ValueError, match="more than limit_gib"):
        brats2020(brats, limit_gib=needed * 0.99, **options)


def files_of(folder):
    names = ("flair", "t1", "t1ce", "t2", "seg")
    return {n: next(folder.glob(f"*_{n}.nii*")) for n in names}


def test_files_that_lie_otherwise(brats, tmp_path):
    folders = sorted(path.parent for path in brats.rglob("*_seg.nii*"))
    files = {f"case {i}": files_of(folder) for i, folder in enumerate(folders)}
    source = brats2020(files, segmentation=True)
    expected = brats2020(brats, segmentation=True, verify=False)
    assert source.groups.tolist() == ["case 0"] * 6 + ["case 1"] * 6
    for name in source.modalities:
        assert np.array_equal(source.modalities[name], expected.modalities[name])
    assert np.array_equal(source.targets["tumor"], expected.targets["tumor"])
    assert len(brats2020(files, subjects="case 1")) == 6
    part = {"x": {"t1": files["case 0"]["t1"], "seg": files["case 0"]["seg"]}}
    assert list(brats2020(part, modalities="t1").modalities) == ["t1"]
    for given, match in [
        (part, "subject 'x' are .*expected a dict with a path for each of flair"),
        ({"x": "a.nii"}, "subject 'x' are 'a.nii'"),
        ({}, "not found among the 0"),
        (
            {"x": {**files["case 0"], "t2": tmp_path / "no.nii"}},
            "no.nii does not exist",
        ),
    ]:
        with pytest.raises(ValueError, match=match):
            brats2020(given)


def test_volumes_that_are_pixels_already(brats):
    folder = next(brats.rglob("BraTS20_Training_001"))
    for path in sorted(brats.rglob("*_t1*.nii*")):  # t1 and t1ce
        values = np.array(nibabel.load(path).dataobj)
        write(path, np.where(values > 0, 1 + values // 4, 0).astype(np.int16))
    options = {"modalities": ("t1", "t1ce"), "zscore": False, "verify": False}
    slices = brats2020_slices(brats, **options)
    raw = nibabel.load(folder / "BraTS20_Training_001_t1.nii.gz").get_fdata()
    raw = raw.transpose(2, 1, 0)[1:7]
    assert np.array_equal(slices.source.modalities["t1"][:6, ..., 0], raw)
    assert np.allclose(np.nan_to_num(slices.intensities("t1")[:6]), raw, atol=1e-4)
    with pytest.raises(
        ValueError, match=r"_flair\.nii.gz has \d+% of its brain outside"
    ):
        brats2020(brats, zscore=False, verify=False)


def test_pixels_can_be_turned_back(brats):
    slices = brats2020_slices(brats, verify=False, modalities=["t1"])
    folder = next(brats.rglob("BraTS20_Training_001"))
    raw = nibabel.load(folder / "BraTS20_Training_001_t1.nii.gz").get_fdata()
    got = slices.intensities("t1")[:6]
    expected = raw.transpose(2, 1, 0)[1:7]
    assert np.array_equal(np.isnan(got), expected == 0)
    worst = np.nanmax(np.abs(got - expected)[expected != 0])
    assert worst <= 0.021 * slices.std["t1"][0]
    inside = raw[raw != 0]
    assert slices.mean["t1"][0] == pytest.approx(inside.mean())
    assert slices.std["t1"][0] == pytest.approx(inside.std())


def test_to_pixels_clips_far_values(tmp_path):
    values = np.full(SHAPE, 100.0, np.float32)
    values[::2] = 102.0
    values[0] = 0
    values[1, 0, 0] = 1e6
    pixels, _, _ = to_pixels(read_volume(write(tmp_path / "a.nii", values)))
    assert pixels[0].max() == 0 and pixels[1:].min() >= 1 and pixels.max() == 255
    assert to_z(np.array([128, 153, 1], np.uint8)).tolist() == pytest.approx(
        [0, 1, -5.08]
    )
    assert np.isnan(to_z(np.array([0]))).all()


def test_size_every_subjects(brats):
    source = brats2020(
        brats, image_size=(12, 10), every=2, subjects=["BraTS20_Training_002"],
        modalities=("t2", "flair"),
    )  # fmt: skip
    assert source.modalities["t2"].shape == (3, 12, 10, 1)
    assert list(source.modalities) == ["t2", "flair"]
    assert [name[-3:] for name in source.ids] == ["002", "004", "006"]
    assert source.masks["t2"].shape == (3, 12, 10) and source.masks["t2"].any()


def test_the_misnamed_mask(brats):
    folder = next(brats.rglob("BraTS20_Training_002"))
    path = folder / "BraTS20_Training_002_seg.nii"
    values = np.array(nibabel.load(path).dataobj)
    path.unlink()
    # Made for an older release: its header need not be that of the images.
    write(folder / "W39_1998.09.19_Segm.nii", values, np.diag([1.0, 1, 1, 1]))
    assert brats2020(brats, verify=False).masks["t1"][6:].sum() == 96
    # But a mask that is not of this brain is refused, whatever its name.
    off = np.zeros(SHAPE, np.uint8)
    off[:3, :3] = 1
    write(folder / "W39_1998.09.19_Segm.nii", off)
    with pytest.raises(ValueError, match=r"Segm\.nii marks 72 of 72 tumour voxels"):
        brats2020(brats, verify=False)


def test_problems_are_named(brats, tmp_path):
    folder = next(brats.rglob("BraTS20_Training_001"))
    t1 = folder / "BraTS20_Training_001_t1.nii.gz"
    good = t1.read_bytes()
    values = np.asarray(nibabel.load(t1).dataobj)

    def refused(match):
        with pytest.raises(ValueError, match=match) as caught:
            brats2020(brats, verify=False)
        assert "BraTS20_Training_001" in str(caught.value)
        assert "\n" not in str(caught.value)
        t1.write_bytes(good)

    t1.write_bytes(good[: len(good) // 2])
    refused("t1.nii.gz is truncated")
    write(t1, values[:, :, :4])
    refused("has the shape")
    write(t1, np.where(values > 800, np.nan, values).astype(np.float32))
    refused("voxels are NaN")
    write(t1, np.zeros_like(values))
    refused("is 0 everywhere")
    write(t1, np.where(values > 0, 7, 0).astype(np.int16))
    refused("the same value")
    write(t1, values, np.diag([2.0, 2, 2, 1]))
    refused("another affine")
    write(t1, values, np.eye(4)[[2, 1, 0, 3]])
    refused("no axial slices")
    write(t1, np.stack([values, values], -1))
    refused("expected three dimensions")
    write(t1, values.astype(np.complex64))
    refused("expected plain numbers")
    t1.unlink()
    refused("lacks .*t1.nii .*awsaf49")
    seg = folder / "BraTS20_Training_001_seg.nii.gz"
    labels = np.asarray(nibabel.load(seg).dataobj).copy()
    labels[7, 7, 4] = 3
    write(seg, labels)
    refused("has the label 3: expected only 0")


def test_bad_arguments(brats):
    for options, match in [
        ({"modalities": ["t3"]}, "expected some of flair"),
        ({"region": "NCR"}, "expected one of WT, TC, ET"),
        ({"subjects": ["BraTS20_Training_999"]}, "not found among the 2"),
        ({"every": 0}, "every=0"),
        ({"limit_gib": 1e-6}, "GiB, more than limit_gib.*every=5"),
    ]:
        with pytest.raises(ValueError, match=match):
            brats2020(brats, verify=False, **options)


def test_shapes_may_differ_only_with_a_size(brats):
    subject(next(brats.rglob("MICCAI*")), 3, shape=(24, 24, 6))
    with pytest.raises(ValueError, match="expected one size; pass image_size"):
        brats2020(brats, verify=False)
    source = brats2020(brats, image_size=(16, 16), verify=False)
    assert len(np.unique(source.groups)) == 3


def test_gzip_is_told_by_content(brats):
    folder = next(brats.rglob("BraTS20_Training_002"))
    plain = folder / "BraTS20_Training_002_t1.nii"
    before = read_volume(plain).values
    plain.write_bytes(gzip.compress(plain.read_bytes()))
    assert np.array_equal(read_volume(plain).values, before)


def test_without_nibabel(brats, monkeypatch):
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(ImportError, match=r"pip install 'drifa_keras\[brats\]'"):
        brats2020(brats, verify=False)


def test_counts_of_subjects(brats):
    with pytest.warns(UserWarning, match="subjects 2 of 369"):
        brats2020(brats)


def test_real_crops(data_root):
    folder = data_root / "BraTS2020_tumour_crops"
    subjects = sorted((folder / "MICCAI_BraTS2020_TrainingData").iterdir())
    assert len(subjects) == 368
    chosen = [path.name for path in subjects[::60]]
    slices = brats2020_slices(data_root, subjects=chosen)
    assert np.unique(slices.source.groups).tolist() == chosen
    wt, tc, et = slices.regions.mean((0, 1, 2))
    assert 0.1 < wt < 0.9 and wt > tc > et > 0
    flair = slices.source.modalities["flair"][..., 0]
    inside = slices.region("WT")
    assert flair[inside].mean() > flair[~inside & (flair > 0)].mean() + 20


def test_real_raw_slices(data_root):
    slices = brats2020_slices(
        data_root / "BraTS2020_axial_slices", image_size=(112, 112), verify=False
    )
    assert len(slices) == 40 and slices.labels.shape == (40, 112, 112)
    assert set(np.unique(slices.labels)) == {0, 1, 2, 4}


def test_real_crops_of_the_configuration(data_root):
    config = load_config("brats2020_small", {"data.root": str(data_root)})
    (entry,) = config.data.sources
    assert (entry.options["segmentation"], entry.options["zscore"]) == (True, False)
    few = {"subjects": [f"BraTS20_Training_{i:03d}" for i in (1, 99, 223, 345)]}
    pairing = read_sources(
        load_config(
            "brats2020_small",
            {
                "data.root": str(data_root),
                "data.sources": [
                    {**entry.model_dump(), "options": {**entry.options, **few}}
                ],
            },
        )
    )
    (source,) = pairing.sources
    assert pairing.modalities == dict.fromkeys(("flair", "t1", "t1ce", "t2"), 1)
    assert source.targets["tumor"].shape[1:] == config.data.size == (32, 32)
    # On the scale of the whole brain, where tumours are brighter in FLAIR.
    flair = source.modalities["flair"][..., 0]
    assert np.median(flair[source.targets["tumor"] > 0]) > 150
    # Of subject 99 nine slices are padding; none of these shows tumour.
    assert np.sum(source.groups == few["subjects"][1]) == 32 - 9


def test_real_whole_brains(data_root):
    folder = data_root / "TCGA-LGG_BraTS-Toolkit_example"
    files = {place.name: files_of(place) for place in sorted(folder.iterdir())}
    source = brats2020(files, segmentation=True, image_size=(240, 240), every=8)
    assert source.targets["tumor"].shape == (len(source), 240, 240)
    assert sorted(set(source.groups)) == ["TCGA-DU-7294", "TCGA-FG-6692"]
    maps, flair = source.targets["tumor"], source.modalities["flair"][..., 0]
    assert 0 < (maps > 0).mean() < 0.05
    assert flair[maps == 2].mean() > flair[(maps == 0) & (flair > 0)].mean() + 20
    older = data_root / "BraTS2015_DeepMedic_example" / "train" / "brats_2013_pat0005_1"
    files = {
        "flair": older / "Flair_subtrMeanDivStd.nii.gz",
        "seg": older / "OTMultiClass.nii.gz",
    }
    with pytest.raises(ValueError, match="has the label 3.*BraTS 2017-2020"):
        brats2020({"one": files}, modalities="flair", segmentation=True)


@pytest.mark.large
def test_real_all_crops(data_root):
    with pytest.warns(UserWarning, match="subjects 368 of 369"):
        source = brats2020(data_root / "BraTS2020_tumour_crops", progress=False)
    assert len(np.unique(source.groups)) == 368
