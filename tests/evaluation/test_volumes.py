"""Segmenting whole volumes."""

import keras
import numpy as np
import pytest

from drifa_keras.data import volumes
from drifa_keras.evaluation import segment_volume
from drifa_keras.models import MultimodalModel

nibabel = pytest.importorskip("nibabel", reason="the extra brats is absent")

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])


def threshold(size, names=("flair", "t2"), channels=1):
    """A network that calls a pixel 1 where the first modality is above 128."""
    shapes = dict.fromkeys(names, (*size, channels))
    inputs, streams, _ = MultimodalModel.open_streams(shapes, rescaling=None)
    first = streams[names[0]]
    others = [keras.layers.Rescaling(0.0)(streams[name]) for name in names[1:]]
    x = keras.layers.Add()([first, *others]) if others else first
    model = MultimodalModel(inputs, x, shapes, {"bright": 2}, rescaling=None)
    kernel = np.zeros((1, 1, channels, 2), "float32")
    kernel[0, 0, 0, 1] = 1
    model.get_layer("bright_logits").set_weights(
        [kernel, np.array([0, -128.5], "float32")]
    )
    return model


def brain(tmp_path, shape=(12, 16, 5), names=("flair", "t2"), seed=0):
    """Files of smooth values in a box, and the first volume's values."""
    generator = np.random.default_rng(seed)
    files = {}
    inside = np.zeros(shape, bool)
    inside[2:-2, 3:-3, 1:-1] = True
    for name in names:
        values = generator.uniform(100, 900, shape) * inside
        files[name] = tmp_path / f"{name}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(values.astype("float32"), AFFINE), files[name])
    return files, inside


@pytest.mark.parametrize("channels", [1, 3])
def test_voxel_by_voxel(tmp_path, channels):
    files, inside = brain(tmp_path)
    model = threshold((16, 12), channels=channels)
    found = segment_volume(model, files, batch_size=2)
    pixels = volumes.to_pixels(volumes.read_volume(files["flair"]))[0]
    np.testing.assert_array_equal(found.labels, (pixels > 128) & inside)
    assert found.labels.dtype == "uint8" and found.labels[inside].mean() > 0.2
    voxels = found.labels.sum()
    assert found.millilitres(1) == pytest.approx(voxels * 6 / 1000)
    assert found.millilitres((0, 1)) == pytest.approx(12 * 16 * 5 * 6 / 1000)


def test_at_another_size(tmp_path):
    """A half bright volume stays one through half the size and back."""
    values = np.full((16, 24, 3), 200.0)
    values[8:] = 600
    path = tmp_path / "flair.nii"
    nibabel.save(nibabel.Nifti1Image(values.astype("float32"), AFFINE), path)
    found = segment_volume(threshold((12, 8), ("flair",)), {"flair": path})
    assert found.labels.shape == (16, 24, 3)
    expected = values > 400
    assert (found.labels == expected).mean() > 0.9
    edges = np.abs(np.arange(16) - 7.5) > 2
    np.testing.assert_array_equal(found.labels[edges], expected[edges])


def test_written_and_read_again(tmp_path):
    files, _ = brain(tmp_path)
    found = segment_volume(threshold((16, 12)), {"flair": files["flair"]})
    path = found.save(tmp_path / "seg.nii.gz", values=(0, 4))
    again = nibabel.load(path)
    np.testing.assert_array_equal(np.asarray(again.dataobj), 4 * found.labels)
    np.testing.assert_allclose(again.affine, AFFINE)
    with pytest.raises(ValueError, match="exists already"):
        found.save(path)
    with pytest.raises(ValueError, match="is no .nii or .nii.gz file"):
        found.save(tmp_path / "seg.png")


# === Real brains ===

BRATS = ("flair", "t1", "t1ce", "t2")
TCGA = "TCGA-LGG_BraTS-Toolkit_example/TCGA-DU-7294/TCGA-DU-7294"
BRATS_2015 = "BraTS2015_DeepMedic_example/test/brats_2013_pat0001_1"
EXAMS = {
    "all modalities": {name: f"{TCGA}_{name}.nii.gz" for name in BRATS},
    "two are missing": {
        "flair": f"{BRATS_2015}/Flair_subtrMeanDivStd.nii.gz",
        "t1ce": f"{BRATS_2015}/T1c_subtrMeanDivStd.nii.gz",
    },
}


def exam(data_root, which):
    return {name: data_root / path for name, path in EXAMS[which].items()}


def bright(files):
    """What `threshold` finds: flair above 128, within the brain of any modality."""
    pixels = volumes.to_pixels(volumes.read_volume(files["flair"]))[0]
    read = [np.asarray(nibabel.load(path).dataobj) for path in files.values()]
    brain = np.any([values != 0 for values in read], axis=0)
    return (pixels > 128) & brain, brain


@pytest.mark.parametrize("which", EXAMS)
def test_a_whole_brain_voxel_by_voxel(data_root, which):
    files = exam(data_root, which)
    wanted, brain = bright(files)
    found = segment_volume(threshold(wanted.shape[1::-1], BRATS), files)
    assert found.labels.shape == wanted.shape and min(wanted.shape) > 70
    np.testing.assert_array_equal(found.labels, wanted)
    assert 0.2 < found.labels[brain].mean() < 0.8


def test_a_whole_brain_at_the_size_of_brats(data_root, tmp_path):
    """240x240x155; what resizing does is another test."""
    files, large = exam(data_root, "all modalities"), {}
    for name, path in files.items():
        values = np.asarray(nibabel.load(path).dataobj)
        for axis, size in enumerate((240, 240, 155)):
            values = values.repeat(2, axis=axis)
            short = max(size - values.shape[axis], 0)
            around = [(0, 0)] * 3
            around[axis] = (short // 2, short - short // 2)
            values = np.pad(values, around).take(range(size), axis)
        large[name] = tmp_path / f"{name}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), large[name])
    found = segment_volume(threshold((240, 240), BRATS), large)
    assert found.labels.shape == (240, 240, 155)
    np.testing.assert_array_equal(found.labels, bright(large)[0])


def test_bad_input(tmp_path):
    files, _ = brain(tmp_path)
    model = threshold((16, 12))
    other = tmp_path / "other.nii"
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 4), "float32"), AFFINE), other)
    shifted = AFFINE.copy()
    shifted[0, 3] = 7
    moved = tmp_path / "moved.nii"
    values = volumes.read_volume(files["t2"]).values
    nibabel.save(nibabel.Nifti1Image(values.astype("float32"), shifted), moved)
    for given, message in (
        ({"ct": files["t2"]}, r"modalities \['ct'\]. Those of the network are"),
        ({}, "Those of the network are"),
        ({**files, "t2": other}, "not on one grid: shapes"),
        ({**files, "t2": moved}, "not on one grid"),
        ({"flair": tmp_path / "none.nii"}, "does not exist"),
    ):
        with pytest.raises(ValueError, match=message):
            segment_volume(model, given)
    with pytest.raises(ValueError, match=r"of \['bright'\]. Received: task='tumor'"):
        segment_volume(model, files, task="tumor")
