"""Tasks whose targets are label maps, from the source to the augmented batch."""

from dataclasses import replace

import numpy as np
import pytest

from drifa_keras.data import (
    Augment,
    Source,
    align,
    audit,
    batches,
    class_weights,
    pair,
    phantoms,
    split,
)

CLASSES = ("ground", "a", "b", "c")
SHADES = np.array([10, 60, 110, 160, 210], np.uint8)  # of unknown, then each class


def shaded(maps):
    """Images whose pixels tell the label below them."""
    return SHADES[np.asarray(maps) + 1][..., None]


def map_source(maps, name="maps", task="seg", modality="m", **fields):
    return Source(
        name,
        {modality: shaded(maps)},
        {task: maps},
        {task: CLASSES},
        **fields,
    )


def noise(n=12, size=16, seed=0, low=-1):
    return np.random.default_rng(seed).integers(low, 4, (n, size, size))


def blobs(n=12, size=64):
    """Nested discs off the middle: large even areas, few edges."""
    y, x = np.indices((size, size))
    far = np.hypot(y - 0.45 * size, x - 0.6 * size)
    one = np.digitize(far, [0.12 * size, 0.22 * size, 0.32 * size])
    return np.repeat((3 - one)[None], n, 0)


def collect(dataset, n=None):
    return list((dataset if n is None else dataset.take(n)).as_numpy_iterator())


@pytest.fixture
def tf():
    return pytest.importorskip("tensorflow")


# --- the source ----------------------------------------------------------------------


def test_source_keeps_maps_small_and_tells_them_from_labels():
    maps = noise()
    source = Source(
        "both",
        {"m": shaded(maps)},
        {"seg": maps.astype(float), "kind": np.arange(12) % 2},
        {"seg": CLASSES, "kind": "xy"},
    )
    assert source.maps == ("seg",)
    assert source.targets["seg"].dtype == np.int8
    assert np.array_equal(source.targets["seg"], maps)
    assert source.targets["kind"].dtype == np.int64
    many = tuple(str(i) for i in range(200))
    large = Source("s", {"m": shaded(maps)}, {"seg": maps + 150}, {"seg": many})
    assert large.targets["seg"].dtype == np.int16 and large.targets["seg"].max() == 153


def test_regions_are_each_class_unless_said():
    assert map_source(noise()).regions == {"seg": {"a": (1,), "b": (2,), "c": (3,)}}
    given = {"seg": {"all": [1, 2, 3], "core": np.array([2, 3])}}
    source = map_source(noise(), regions=given)
    assert source.regions == {"seg": {"all": (1, 2, 3), "core": (2, 3)}}
    assert source.take([3]).regions == source.regions
    assert source.load((8, 8), progress=False).regions == source.regions
    assert phantoms(n=4)[0].regions == {} and phantoms(n=4)[0].maps == ()


def test_take_and_replace_keep_maps():
    source = map_source(noise())
    part = source.take([5, 2])
    assert np.array_equal(part.targets["seg"], source.targets["seg"][[5, 2]])
    assert np.array_equal(part.modalities["m"], shaded(part.targets["seg"]))
    grouped = replace(part, groups=["g", "h"])
    assert np.array_equal(grouped.targets["seg"], part.targets["seg"])


@pytest.mark.parametrize("size", [(8, 8), (32, 32), (12, 20)])
def test_load_takes_the_nearest_label(size):
    source = map_source(noise())
    maps = source.load(size, progress=False).targets["seg"]
    assert maps.shape == (12, *size) and maps.dtype == np.int8
    # The centre of each new pixel lies on the edge of the old one, or inside it.
    for row, column in np.ndindex(size):
        y, x = (row + 0.5) * 16 / size[0], (column + 0.5) * 16 / size[1]
        assert np.array_equal(
            maps[:, row, column], source.targets["seg"][:, int(y), int(x)]
        )


def test_case_labels_say_whether_anything_is_there():
    maps = np.full((3, 4, 4), -1)
    maps[1, 0] = 0
    maps[2, 1, 1] = 3
    source = map_source(maps)
    labels, names = source.case_labels("seg")
    assert labels.tolist() == [-1, 0, 1] and names == ("absent", "present")
    (plain,) = phantoms(n=6, modalities="ct")
    assert np.array_equal(plain.case_labels("ct_nodule")[0], plain.targets["ct_nodule"])


PATHS = ["a.png"] * 11 + ["b.png"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": {"seg": noise() + 1}}, r"label 4 at row 0, pixel \(.*0\.\.3"),
        ({"targets": {"seg": noise() - 1}}, "label -2 at row 0, pixel"),
        ({"targets": {"seg": noise() + 0.5}}, "whole numbers"),
        ({"targets": {"seg": noise()[..., None]}}, "label maps"),
        ({"targets": {"seg": noise()[:, 0]}}, r"shape \(12, 16\)"),
        ({"targets": {"seg": noise(3)}}, "task 'seg' has 3"),
        ({"targets": {"seg": noise(size=8)}}, r"\(8, 8\) and the images.*resize one"),
        ({"modalities": {"m": PATHS}}, "modality 'm' is paths"),
        ({"regions": {"other": {"x": (1,)}}}, "names 'other'.*'seg'"),
        ({"regions": {"seg": {"x": (4,)}}}, r"Region 'x'.*\[4\].*0\.\.3"),
        ({"regions": {"seg": {"x": ()}}}, "one or more"),
        ({"regions": {"seg": {"x": (1, 1)}}}, "different"),
        ({"regions": {"seg": {"x": 2}}}, "one or more"),
        ({"regions": {"seg": {"x": ("a",)}}}, r"\['a'\]"),
    ],
)
def test_bad_maps_are_named(change, message):
    fields = {
        "modalities": {"m": shaded(noise())},
        "targets": {"seg": noise()},
        "class_names": {"seg": CLASSES},
        **change,
    }
    with pytest.raises(ValueError, match=message) as caught:
        Source("s", **fields)
    assert "\n" not in str(caught.value)


def test_regions_are_for_tasks_with_maps(make_source):
    with pytest.raises(ValueError, match="'label'.*there are none"):
        make_source(4, regions={"label": {"x": (1,)}})


# --- splitting and auditing ----------------------------------------------------------


def half_empty(n=200):
    maps = noise(n, 4, low=1)
    maps[np.arange(n) % 2 == 0] = 0
    return map_source(maps, groups=np.arange(n) // 4)


def test_split_by_whether_anything_is_there():
    source = half_empty()
    label = replace(
        source,
        targets={"seg": source.case_labels("seg")[0]},
        class_names={"seg": ("absent", "present")},
        regions={},
    )
    parts, expected = split(source), split(label)
    for name, rows in parts.parts().items():
        assert np.array_equal(rows, expected.parts()[name])
        assert abs(source.targets["seg"][rows].any(axis=(1, 2)).mean() - 0.5) < 0.1


def test_split_warns_of_a_class_that_no_map_of_a_part_shows():
    source = half_empty()
    maps = np.minimum(source.targets["seg"], 2)
    maps[1, 0, 0] = 3
    with pytest.warns(UserWarning, match=r"'c' of task 'seg' \(1 image\(s\) in 1 gr"):
        split(replace(source, targets={"seg": maps}))


def test_audit_counts_maps_with_anything_in_them():
    found = audit(half_empty(40), progress=False, folds=2)
    assert found.classes == {"absent": 20, "present": 20}


def test_class_weights_are_for_labels():
    with pytest.raises(ValueError, match=r"shape \(12, 16, 16\).*one label an image"):
        class_weights(noise(), 4)


# --- batches -------------------------------------------------------------------------


def expected_rows(maps):
    return np.eye(5, dtype=np.float32)[maps][..., :4]  # -1 is the row left out


def test_pairings_know_their_maps(make_source):
    regions = {"seg": {"all": (1, 2, 3)}}
    joined = pair([map_source(noise(), regions=regions), make_source(5)])
    assert joined.maps == ("seg",) and joined.regions == regions
    assert joined.tasks == {"seg": 4, "label": 2}
    assert joined.take([[0, 1], [2]]).regions == regions
    assert align(make_source(5)).maps == ()


def test_batches_of_unrelated_sources(tf, make_source):
    maps = noise()
    maps[::3] = -1
    joined = pair([map_source(maps), make_source(7, size=16)])
    seen = collect(batches(joined, image_size=(16, 16), batch_size=4, seed=3, epochs=2))
    for step, (images, targets, weights) in enumerate(seen):
        rows = joined.epoch(3, step // 3)[(step % 3) * 4 :][:4]
        labels = maps[rows[:, 0]]
        assert targets["seg"].dtype == np.float32
        assert np.array_equal(targets["seg"], expected_rows(labels))
        assert np.array_equal(weights["seg"], (labels >= 0).any(axis=(1, 2)))
        assert weights["seg"].dtype == np.float32
        assert np.array_equal(images["m"], shaded(labels))
        assert np.array_equal(targets["label"], np.eye(2)[rows[:, 1] % 2])
    spec = batches(joined, image_size=(16, 16), batch_size=4).element_spec
    assert spec[1]["seg"].shape == (4, 16, 16, 4) and spec[2]["seg"].shape == (4,)


def test_validation_gives_each_map_the_same_say(tf, make_source):
    maps = noise(4)
    maps[1] = -1
    joined = pair([map_source(maps), make_source(10, size=16)])
    seen = collect(batches(joined, image_size=(16, 16), batch_size=4, training=False))
    total = np.zeros(4)
    for _, targets, weights in seen:
        which = [
            int(np.flatnonzero((expected_rows(maps) == t).all((1, 2, 3)))[0])
            for t in targets["seg"]
        ]
        np.add.at(total, which, weights["seg"])
    assert np.allclose(total, [2.5, 0, 2.5, 2.5])


def test_maps_are_resized_with_the_images(tf):
    source = map_source(noise(8, low=0).repeat(2, 1).repeat(2, 2))
    options = {"image_size": (16, 16), "batch_size": 8, "training": False}
    ((_, targets, _),) = collect(batches(align(source), **options))
    assert np.array_equal(
        targets["seg"], expected_rows(source.targets["seg"][:, ::2, ::2])
    )
    loaded = source.load((16, 16), progress=False)
    ((_, again, _),) = collect(batches(align(loaded), **options))
    assert np.array_equal(targets["seg"], again["seg"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"augment": Augment(mixup=0.2)}, "augment has mixup.*seg have label maps"),
        ({"augment": Augment("vertical", cutmix=0.5)}, "augment has cutmix"),
        ({"augment": Augment(rand_augment=True)}, "only flip, rotation and transl"),
        ({"class_weights": {"seg": np.ones(4)}}, "'seg', which has label maps"),
    ],
)
def test_what_maps_cannot_have(tf, make_source, change, message):
    joined = pair([map_source(noise()), make_source(5, size=16)])
    with pytest.raises(ValueError, match=message):
        batches(joined, image_size=(16, 16), batch_size=4, **change)
    # The other task may have weights of its own.
    batches(
        joined,
        image_size=(16, 16),
        batch_size=4,
        class_weights={"label": np.ones(2)},
    )


# --- augmentation --------------------------------------------------------------------


def augmented(source, augment, n=1, **options):
    size = source.targets["seg"].shape[1:]
    options = {"batch_size": len(source), "seed": 1, **options}
    return collect(
        batches(align(source), image_size=size, augment=augment, **options), n
    )


@pytest.mark.parametrize(
    "augment",
    [
        Augment("horizontal"),
        Augment("vertical"),
        Augment("horizontal_and_vertical"),
        Augment(translation=0.3),
        Augment("horizontal_and_vertical", translation=0.2),
    ],
    ids=["left-right", "up-down", "both", "shift", "all"],
)
def test_maps_move_with_their_images(tf, augment):
    source = map_source(noise(16))
    plain = augmented(source, None)[0][1]["seg"]
    ((images, targets, _),) = augmented(source, augment)
    # Whatever was done, the pixel still tells its label, -1 as a row of zeros.
    labels = np.searchsorted(SHADES, images["m"][..., 0]) - 1
    assert np.array_equal(targets["seg"], expected_rows(labels))
    moved = (targets["seg"] != plain).any((1, 2, 3))
    assert moved.mean() > 0.3


def test_rotated_maps_stay_exact_and_follow_the_image(tf):
    source = map_source(blobs())
    plain = augmented(source, None)[0][1]["seg"]
    ((images, targets, weights),) = augmented(source, Augment(rotation=0.2))
    rows = targets["seg"]
    assert set(np.unique(rows)) == {0.0, 1.0}
    assert np.array_equal(rows.sum(-1), np.ones(rows.shape[:3]))
    assert np.array_equal(weights["seg"], np.ones(12))
    pixels = images["m"][..., 0].astype(int)
    labels = np.abs(pixels[..., None] - SHADES[1:].astype(int)).argmin(-1)
    differ = labels != rows.argmax(-1)
    assert differ.mean() < 0.02
    # Where they differ, interpolation made a shade that no label has.
    assert not np.isin(pixels[differ], SHADES).any()
    assert (rows != plain).any((1, 2, 3)).mean() > 0.9
    # Not merely the original map: that one is far from the turned image.
    assert (labels != plain.argmax(-1)).mean() > 3 * differ.mean()


def test_unknown_pixels_stay_unknown_under_rotation(tf):
    maps = blobs()
    maps[maps == 2] = -1
    ((images, targets, _),) = augmented(map_source(maps), Augment(rotation=0.2))
    rows, pixels = targets["seg"], images["m"][..., 0]
    assert set(np.unique(rows.sum(-1))) == {0.0, 1.0}
    assert not rows[..., 2].any()
    inner = np.isin(pixels, SHADES)
    assert (rows.sum(-1) == 0)[inner & (pixels == SHADES[0])].mean() > 0.97


def test_a_map_whose_known_pixels_are_out_of_view_counts_nothing(tf):
    maps = np.full((64, 16, 16), -1)
    maps[:, 0, 0] = 1
    ((_, targets, weights),) = augmented(map_source(maps), Augment(translation=0.3))
    known = targets["seg"].any((1, 2, 3))
    assert 0 < known.mean() < 1
    assert np.array_equal(weights["seg"], known)


def test_labels_of_the_same_source_are_left_alone(tf):
    maps = noise()
    source = Source(
        "both",
        {"m": shaded(maps)},
        {"seg": maps, "kind": np.arange(12) % 3 - 1},
        {"seg": CLASSES, "kind": "xy"},
    )
    ((_, plain, shares),) = augmented(source, None)
    ((_, targets, weights),) = augmented(source, Augment("horizontal", 0.1, 0.1))
    assert np.array_equal(targets["kind"], plain["kind"])
    assert np.array_equal(weights["kind"], shares["kind"])
    assert not np.array_equal(targets["seg"], plain["seg"])


def test_augmented_maps_follow_from_seed_epoch_and_step(tf):
    source = map_source(noise(16))
    options = {"augment": Augment("vertical", 0.1, 0.1), "batch_size": 4}
    whole = augmented(source, n=12, epochs=3, **options)

    def same(first, second):
        return len(first) == len(second) and all(
            np.array_equal(a[1]["seg"], b[1]["seg"])
            and np.array_equal(a[0]["m"], b[0]["m"])
            for a, b in zip(first, second, strict=True)
        )

    assert same(whole, augmented(source, n=12, epochs=3, **options))
    assert same(whole[8:], augmented(source, n=4, first_epoch=2, epochs=3, **options))
    assert not same(whole, augmented(source, n=12, epochs=3, seed=9, **options))
    assert not same(whole[:4], whole[4:8])


# --- phantoms ------------------------------------------------------------------------


@pytest.mark.parametrize("aligned", [False, True])
def test_phantoms_to_segment(aligned):
    options = {"n": 150, "modalities": ("ct", "mri"), "aligned": aligned}
    sources = phantoms(**options, segmentation=True)
    for source, other in zip(sources, phantoms(**options), strict=True):
        ((task, kinds),) = other.class_names.items()
        assert source.maps == (task,)
        assert source.class_names[task] == ("background", *kinds)
        assert source.regions[task]["lesion"] == (1, 2, 3)
        assert source.regions[task][kinds[2]] == (3,)
        maps, mask = source.targets[task], next(iter(other.masks.values()))
        assert np.array_equal(maps > 0, mask)
        assert np.array_equal(maps.max((1, 2)) - 1, other.targets[task])
        for name, images in other.modalities.items():
            assert np.array_equal(source.modalities[name], images)
        train = split(source, (0.6, 0.2, 0.2)).train
        assert set(np.unique(maps[train])) == {0, 1, 2, 3}
