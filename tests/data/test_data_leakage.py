import json
import warnings

import numpy as np
import pytest
from PIL import Image

from drifa_keras.data import Source, Split, image_folder, split
from drifa_keras.data.leakage import (
    assert_no_leakage,
    audit,
    audit_split,
    contact_sheet,
    fingerprint,
    hash_pairs,
    merge_groups,
    near_groups,
    near_pairs,
)
from drifa_keras.data.leakage.confounds import cramers_v
from drifa_keras.data.leakage.pairs import Collector, components


def texture(seed, size=(96, 96)):
    """A picture like no other: smooth noise in colour."""
    grains = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)
    return Image.fromarray(grains).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path):
    """Two classes of eight different pictures each."""
    for label, name in enumerate(("healthy", "ill")):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(8):
            picture = texture(10 * label + number)
            picture.save(tmp_path / "set" / name / f"{number}.png")
    return tmp_path / "set"


def pairs_of(pairs, ids):
    return {
        frozenset((ids[a].item(), ids[b].item()))
        for a, b in zip(pairs.first, pairs.second, strict=True)
    }


def toy(images, labels=None, groups=None, **fields):
    n = len(images)
    return Source(
        name="toy",
        modalities={"image": images},
        targets={"label": np.arange(n) % 2 if labels is None else labels},
        class_names={"label": ("a", "b")},
        groups=groups,
        **fields,
    )


# What is found, and what is not -------------------------------------------------


@pytest.mark.parametrize(
    ("name", "make", "exact", "near"),
    [
        ("copy.bmp", lambda p: p, True, True),
        ("copy.jpg", lambda p: p, False, True),
        ("small.png", lambda p: p.resize((72, 72)), False, True),
        ("brighter.png", lambda p: p.point(lambda v: min(255, v + 4)), False, True),
        ("turned.png", lambda p: p.rotate(90), False, False),
        ("upside_down.png", lambda p: p.rotate(180), False, False),
        ("mirrored.png", lambda p: p.transpose(Image.FLIP_LEFT_RIGHT), False, False),
    ],
)
def test_planted_copy(folder, name, make, exact, near):
    make(texture(0)).save(folder / "healthy" / name)
    source = image_folder(folder)
    prints = fingerprint(source, progress=False)
    found = near_pairs(prints, progress=False)
    planted = {frozenset(("healthy/0.png", f"healthy/{name}"))}
    for pairs in (found.confirmed, found.cosine):
        assert pairs_of(pairs, source.ids) == (planted if near else set())
    result = audit(source, fingerprints=prints, progress=False)
    assert result.exact.sets == result.exact.surplus == int(exact)
    assert result.near["confirmed"].pairs == int(near)
    assert result.merged_groups == 17 - near
    assert not result.conflicts
    assert result.split("random").straddling_copies == int(
        exact and result.split("random").exact > 0
    )
    assert result.split("grouped").confirmed == result.split("grouped").exact == 0


def test_relabelled_copy_is_a_conflict(folder):
    texture(0).save(folder / "ill" / "relabelled.png")
    texture(1).save(folder / "ill" / "relabelled.jpg")
    result = audit(image_folder(folder), progress=False)
    assert result.exact.across_classes == 1
    assert result.near["confirmed"].across_classes == 2
    assert [c["measure"] for c in result.conflicts] == ["identical", "confirmed"]
    assert result.conflicts[0]["ids"] == ["healthy/0.png", "ill/relabelled.png"]
    assert result.conflicts[0]["classes"] == ["healthy", "ill"]
    pair = result.worst["across_classes"][0]
    assert (pair.first_id, pair.second_id, pair.note) == (
        "healthy/0.png",
        "ill/relabelled.png",
        "identical",
    )


def test_unreadable_and_black_files(folder):
    whole = (folder / "ill" / "3.png").read_bytes()
    (folder / "ill" / "half.png").write_bytes(whole[: len(whole) // 2])
    (folder / "ill" / "empty.png").write_bytes(b"")
    for name in ("black", "dark"):
        Image.new("RGB", (40, 40)).save(folder / "healthy" / f"{name}.png")
    source = image_folder(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = audit(source, progress=False)
    assert [bad["id"] for bad in result.unreadable] == ["ill/empty.png", "ill/half.png"]
    assert all("not an image" in bad["error"] for bad in result.unreadable)
    assert result.black == ("healthy/black.png", "healthy/dark.png")
    # Nothing to see is no reason to call two files copies.
    assert result.exact.sets == 0 and result.near["cosine"].pairs == 0
    assert result.split("random").test == 16


def test_flat_images_are_copies_but_not_near_duplicates():
    images = np.full((6, 20, 20, 3), 90, np.uint8)
    images[3:] = 91
    source = toy(images)
    prints = fingerprint(source, progress=False)
    assert not prints.thumbnails.any()
    result = audit(source, fingerprints=prints, progress=False)
    assert (result.exact.sets, result.exact.surplus) == (2, 4)
    assert result.near["confirmed"].pairs == result.near["cosine"].pairs == 0
    assert near_groups(prints).tolist() == [0, 0, 0, 1, 1, 1]


def test_absent_images_and_unknown_labels(folder):
    texture(0).save(folder / "healthy" / "copy.png")
    paths = [str(folder / "healthy" / f"{name}.png") for name in (0, "copy", 1, 2)]
    result = audit(toy([*paths, None, None], [0, -1, 1, 0, 1, 0]), progress=False)
    assert (result.absent, result.unlabelled) == (2, 1)
    assert (result.exact.sets, result.exact.across_classes) == (1, 0)
    assert result.split("random").test == 3


def test_arrays_and_files_have_the_same_fingerprint(folder):
    source = image_folder(folder)
    by_file = fingerprint(source, progress=False)
    by_list = fingerprint(source.modalities["image"].tolist(), progress=False)
    loaded = source.load((96, 96), progress=False)
    by_array = fingerprint(loaded, progress=False)
    for other in (by_list, by_array):
        assert np.array_equal(by_file.sha256, other.sha256)
        assert np.array_equal(by_file.dhash, other.dhash)
        assert np.array_equal(by_file.thumbnails, other.thumbnails)
    assert by_file.size.tolist()[0] == [96, 96] and by_file.mode[0] == "RGB"
    np.testing.assert_allclose(np.linalg.norm(by_file.thumbnails, axis=1), 1, 1e-5)
    np.testing.assert_allclose(by_file.thumbnails.sum(axis=1), 0, atol=1e-3)


def test_dhash_by_hand():
    # Rising from left to right everywhere: 64 ones; falling: none.
    ramp = np.zeros((2, 8, 9, 3), np.uint8)
    ramp[0] += 20 * np.arange(9, dtype=np.uint8)[:, None]
    ramp[1] = ramp[0, :, ::-1]
    prints = fingerprint(toy(ramp), progress=False)
    assert prints.dhash.tolist() == [2**64 - 1, 0]


# The search ----------------------------------------------------------------------


@pytest.mark.parametrize("distance", [0, 1, 2, 5])
def test_hash_pairs_equal_brute_force(distance):
    rng = np.random.default_rng(distance)
    hashes = rng.integers(0, 2**63, 300, dtype=np.uint64)
    for row in range(150):  # near copies of every distance, and runs of equal ones
        flips = rng.choice(64, rng.integers(0, 8), replace=False)
        flip = sum(1 << int(bit) for bit in flips)
        hashes[rng.integers(0, 300)] = hashes[row] ^ np.uint64(flip)
    hashes[-40:] = hashes[0]
    want = {
        (a, b): 1 - (int(hashes[a]) ^ int(hashes[b])).bit_count() / 64
        for a in range(300)
        for b in range(a + 1, 300)
        if (int(hashes[a]) ^ int(hashes[b])).bit_count() <= distance
    }
    found = hash_pairs(hashes, distance)
    keys = list(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert keys == sorted(want)
    np.testing.assert_allclose(found.score, [want[key] for key in keys], 1e-6)
    assert found.total == len(want) and found.complete

    even = np.arange(300) % 2 == 0
    some = hash_pairs(hashes, distance, even)
    keys = list(zip(some.first.tolist(), some.second.tolist(), strict=True))
    assert keys == sorted(k for k in want if even[k[0]] and even[k[1]])


def test_near_pairs_equal_brute_force():
    # More rows than one block of the matrix product holds.
    rng = np.random.default_rng(0)
    grains = rng.integers(0, 256, (600, 8, 8, 3), np.uint8)
    for row in range(0, 300, 3):
        noisy = grains[row].astype(int) + rng.integers(-12, 13, (8, 8, 3))
        grains[599 - row // 3] = np.clip(noisy, 0, 255)
    prints = fingerprint(toy(grains), progress=False)
    found = near_pairs(prints, 0.97, progress=False)

    grey = prints.thumbnails * prints.contrast[:, None] + prints.brightness[:, None]
    correlation = np.corrcoef(grey)
    bits = np.unpackbits(prints.dhash.view(np.uint8).reshape(-1, 8), axis=1)
    apart = (bits[:, None] != bits).sum(axis=2)
    grey_apart = np.stack([np.abs(grey - row).mean(axis=1) for row in grey])
    upper = np.triu(np.ones((600, 600), bool), 1)
    want = {
        "cosine": correlation >= 0.97,
        "dhash": apart <= 2,
        "confirmed": (apart <= 2) & (correlation > 0.98) & (grey_apart < 8),
    }
    for name, table in want.items():
        pairs = getattr(found, name)
        expected = np.argwhere(table & upper)
        assert len(expected) > 10, name
        assert np.array_equal(np.stack([pairs.first, pairs.second], 1), expected), name
    pairs = found.cosine
    expected = correlation[pairs.first, pairs.second]
    np.testing.assert_allclose(pairs.score, expected, atol=1e-5)


def test_too_many_pairs_keep_their_clusters():
    rng = np.random.default_rng(3)
    cluster = rng.integers(0, 12, 200)
    first, second = np.nonzero(np.triu(cluster[:, None] == cluster, 1))
    score = rng.uniform(0.98, 1, len(first))
    order = rng.permutation(len(first))
    found = Collector(200, most=400)
    for rows in np.array_split(order, 7):
        found.add(first[rows], second[rows], score[rows])
    pairs = found.pairs()
    assert pairs.total == len(first) and len(pairs) < 900 and not pairs.complete
    got = components(200, [(pairs.first, pairs.second)])
    assert np.array_equal(got[:, None] == got, cluster[:, None] == cluster)
    np.testing.assert_allclose(pairs.score.max(), score.max(), 1e-6)


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01])
def test_bad_threshold(folder, threshold):
    prints = fingerprint(image_folder(folder), progress=False)
    with pytest.raises(ValueError, match="threshold="):
        near_pairs(prints, threshold)


def test_bad_arguments(folder):
    source = image_folder(folder)
    prints = fingerprint(source, progress=False)
    with pytest.raises(ValueError, match="single path.*list of image files"):
        fingerprint(str(folder))
    with pytest.raises(ValueError, match="distance=16"):
        hash_pairs(prints.dhash, 16)
    with pytest.raises(ValueError, match="'phash'.*expected some of exact"):
        near_groups(prints, by="phash")
    with pytest.raises(ValueError, match="same ids in the same order"):
        audit(source.take(np.arange(15, -1, -1)), fingerprints=prints)
    with pytest.raises(ValueError, match=r"modality='ct': expected one of \['image'\]"):
        audit(source, modality="ct")
    with pytest.raises(ValueError, match="split='given' was not audited"):
        audit(source, fingerprints=prints, progress=False).split("given")


# Groups and splits ---------------------------------------------------------------


def test_merge_groups_joins_slides_that_share_a_picture(folder):
    texture(0).save(folder / "healthy" / "copy.jpg")  # of 0, on another slide
    texture(5).save(folder / "healthy" / "copy.png")  # of 5, likewise
    source = image_folder(folder).take(np.arange(10))
    source = toy(
        source.modalities["image"],
        groups=["s1", "s1", "s2", "s2", "s3", "s3", "s4", "s4", "s5", "s5"],
        ids=source.ids,
    )
    assert source.ids.tolist()[8:] == ["healthy/copy.jpg", "healthy/copy.png"]
    prints = fingerprint(source, progress=False)
    merged = merge_groups(source, prints)
    # s1 = s5 through picture 0, s5 = s3 through picture 5.
    assert merged.groups.tolist() == [
        *("s1", "s1", "s2", "s2", "s1", "s1", "s4", "s4", "s1", "s1")
    ]
    exact = merge_groups(source, prints, by="exact")
    assert exact.groups.tolist()[8:] == ["s3", "s3"] and exact.groups[0] == "s1"
    assert near_groups(prints, by=()).tolist() == list(range(10))
    result = audit(source, fingerprints=prints, progress=False)
    assert (result.groups, result.merged_groups) == (5, 3)
    assert result.largest_merged_group == 6
    assert result.near["confirmed"].across_groups == 2
    assert len(result.worst["across_groups"]) == 2


def test_straddling_group_and_copy_in_a_given_split(folder):
    texture(0).save(folder / "ill" / "copy.png")
    source = image_folder(folder, groups=r"/(\d|copy)")  # 0..7 of both classes
    prints = fingerprint(source, progress=False)
    parts = Split(np.arange(8), [8, 9], np.arange(10, 17))
    found = audit(source, parts, fingerprints=prints, progress=False).split("given")
    assert (found.folds, found.train, found.test) == (1, 8, 7)
    assert (found.straddling, found.straddling_copies) == (8, 1)
    assert found.exact == found.confirmed == found.cosine == pytest.approx(1 / 7)
    assert found.same_group == pytest.approx(6 / 7)
    assert found.same_group_by_class == {"ill": pytest.approx(6 / 7)}
    assert found == audit_split(source, parts, prints, progress=False)

    with pytest.raises(ValueError) as error:
        assert_no_leakage(source, parts, prints)
    message = str(error.value)
    assert "8 group(s) straddle the parts, e.g. '0' with 'healthy/0.png'" in message
    assert "1 set(s) of identical images straddle" in message
    assert "'healthy/0.png' in train and 'ill/copy.png' in test" in message
    assert "split(merge_groups(source))" in message
    assert "\n" not in message


def test_assert_no_leakage_passes_what_merge_groups_mends(folder):
    texture(0).save(folder / "ill" / "copy.png")
    source = image_folder(folder)
    leaky = Split(np.arange(8), [], np.arange(8, 17))
    for check in (source, source.load((48, 48), progress=False)):
        with pytest.raises(ValueError, match="1 set.s. of identical images"):
            assert_no_leakage(check, leaky, progress=False)
    mended = merge_groups(source, fingerprint(source, progress=False))
    for seed in range(5):
        parts = split(mended, (0.6, 0.2, 0.2), seed)
        assert_no_leakage(mended, parts, progress=False)
    assert_no_leakage(mended, Split(np.arange(17), [], []), progress=False)


def test_assert_no_leakage_looks_at_every_modality():
    rng = np.random.default_rng(0)
    first, second = rng.integers(1, 255, (2, 8, 12, 12, 3), np.uint8)
    second[6] = second[1]
    second[[2, 7]] = 0  # absent in both: no copies
    source = Source(
        "two",
        {"flair": first, "t1": second},
        {"label": np.arange(8) % 2},
        {"label": ("a", "b")},
    )
    parts = Split(np.arange(4), [4], [5, 6, 7])
    with pytest.raises(ValueError, match="1 set.*of modality 't1'.*000001.*000006"):
        assert_no_leakage(source, parts, progress=False)
    with pytest.raises(ValueError, match=r"modality=None: expected one of .*'flair'"):
        fingerprint(source)
    result = audit(source, modality="t1", progress=False)
    assert (result.absent, result.exact.sets) == (2, 1)


def test_rows_in_two_parts_are_refused(folder):
    source = image_folder(folder)
    with pytest.raises(ValueError, match=r"test part repeats rows, e.g. row 3 \(train"):
        assert_no_leakage(source, Split([1, 3], [], [3, 5]))
    with pytest.raises(ValueError, match="indices 16..16: the source has 16 cases"):
        assert_no_leakage(source, Split([1, 3], [], [16]))


def test_official_split_is_audited(folder):
    texture(0).save(folder / "healthy" / "copy.png")
    source = image_folder(folder)
    part = np.where(np.arange(17) % 2, "test", "train")
    part[[0, 8]] = "train", "test"  # 0.png and copy.png
    source = toy(source.modalities["image"], official_split=part)
    found = audit(source, progress=False)
    assert [entry.name for entry in found.splits] == ["official", "random", "grouped"]
    official = found.split("official")
    assert official.straddling_copies == 1 and official.test == (part == "test").sum()
    assert found.worst["across_split"][0].score == 1


# Nearest neighbours --------------------------------------------------------------


def test_nearest_neighbour_by_hand():
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 256, (2, 16, 16, 3)).astype(float)
    mixes = [(1.0, 0), (0.9, 0), (0.1, 1), (0.0, 1), (0.95, 1), (0.05, 1), (0.6, 0)]
    images = [share * left + (1 - share) * right for share, _ in mixes]
    labels = [label for _, label in mixes]
    source = toy(np.asarray(images).astype(np.uint8), labels)
    # Training: three left, of them the last labelled wrongly, and two right.
    parts = Split([0, 2, 3], [], [1, 4, 5, 6])
    prints = fingerprint(source, progress=False)
    found = audit_split(source, parts, prints, progress=False)
    # 1 and 6 are nearest to 0 (right); 4 also, but is labelled b; 5 is b like 2, 3.
    grey = prints.thumbnails
    nearest = [(grey[[0, 2, 3]] @ grey[row]).argmax() for row in (1, 4, 5)]
    assert nearest[:2] == [0, 0] and nearest[2] > 0
    sixth = (grey[[0, 2, 3]] @ grey[6]).argmax() == 0
    assert found.neighbour == pytest.approx((2 + sixth) / 4)
    assert found.neighbour_balanced == pytest.approx(((1 + sixth) / 2 + 1 / 2) / 2)
    twins = [(grey[[0, 2, 3]] @ grey[row]).max() >= 0.98 for row in (1, 4, 5, 6)]
    assert found.cosine == pytest.approx(np.mean(twins))
    assert found.without_twin == 4 - sum(twins)


def test_neighbour_score_shows_an_easy_random_split():
    # Twenty patients of six like slices each, with labels that mean nothing.
    rng = np.random.default_rng(1)
    patients = rng.integers(0, 200, (20, 1, 10, 10, 3))
    images = (patients + rng.integers(0, 20, (20, 6, 10, 10, 3))).reshape(-1, 10, 10, 3)
    labels = np.repeat(rng.permutation(np.arange(20) % 2), 6)
    groups = np.repeat(np.arange(20), 6)
    found = audit(toy(images.astype(np.uint8), labels, groups), progress=False)
    easy, honest = found.split("random"), found.split("grouped")
    assert easy.neighbour == 1 and easy.same_group == 1 and easy.straddling == 20
    assert honest.same_group == honest.straddling == 0
    assert honest.neighbour < 0.8
    assert found.merged_groups == 20


# Confounds -----------------------------------------------------------------------


def test_confound_by_size_and_mode(tmp_path):
    for label, size in (("a", (40, 40)), ("b", (56, 40))):
        (tmp_path / label).mkdir()
        for number in range(12):
            mode = "L" if number % 2 else "RGB"
            picture = texture(number + 100 * (label == "b"), size).convert(mode)
            picture.save(tmp_path / label / f"{number}.png")
    found = audit(image_folder(tmp_path), progress=False).confounds
    assert found.size_v == pytest.approx(1, abs=0.05) and found.mode_v < 0.05
    assert found.accuracy == found.balanced == 1 and found.majority == 0.5
    assert (found.sizes, found.modes) == (2, 2)
    row = next(r for r in found.table if (r["size"], r["mode"]) == ("56x40", "L"))
    assert row["images"] == {"a": 0, "b": 6}


def test_sizes_that_differ_by_chance_are_no_confound():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 2000)
    many = rng.permutation(2000) // 2  # almost every image has a size of its own
    assert cramers_v(many, labels) < 0.1
    assert cramers_v(labels + 7, labels) == pytest.approx(1, abs=0.01)
    assert cramers_v(np.zeros(2000, int), labels) == 0


# The record ----------------------------------------------------------------------


def test_same_audit_twice_and_as_json(folder):
    texture(0).save(folder / "ill" / "copy.jpg")
    source = image_folder(folder)
    first, second = (audit(source, seed=3, progress=False).to_dict() for _ in range(2))
    assert first == second
    assert json.loads(json.dumps(first)) == first
    assert first["near"]["confirmed"]["pairs"] == 1
    assert first["worst"]["across_classes"][0]["second_id"] == "ill/copy.jpg"
    with pytest.raises(AttributeError):
        audit(source, progress=False).images = 3


def test_table(folder):
    texture(0).save(folder / "ill" / "copy.png")
    rows = audit(image_folder(folder), progress=False).table()
    assert all(len(row) == 3 and all(isinstance(v, str) for v in row) for row in rows)
    cells = {(section, what): value for section, what, value in rows}
    assert cells["images", "images"] == "17"
    assert cells["duplicates", "identical pixels"].startswith("1 sets, 1 surplus")
    conflict = cells["duplicates", "label conflicts"]
    assert conflict == "1: healthy/0.png = ill/copy.png"
    assert ("grouped split", "nearest neighbour on raw pixels") in cells


def test_tiny_sources():
    images = np.random.default_rng(0).integers(1, 255, (1, 9, 9, 3), np.uint8)
    one = audit(toy(images), progress=False)
    assert one.images == 1 and not one.splits and one.table() and one.confounds is None
    both = audit(toy(np.repeat(images, 2, axis=0)), progress=False)
    assert [entry.name for entry in both.splits] == ["random"]
    assert both.merged_groups == 1 and json.dumps(both.to_dict())


def test_contact_sheet(folder):
    (folder / "ill" / "broken.png").write_bytes(b"no image")
    source = image_folder(folder)
    paths = source.modalities["image"]
    pairs = [(0, 1), (2, 3, 0.98), (4, 5, 0.99, "confirmed"), (6, 16)]
    sheet = contact_sheet(pairs, paths, names=source.ids, tile=100, columns=2)
    assert sheet.size == (2 * 224, 2 * 150 + 8) and sheet.mode == "RGB"
    one = contact_sheet(pairs, paths, tile=100, limit=1)
    assert one.size == (224, 158)
    # The picture itself is drawn, at the place that its tile has.
    drawn = np.asarray(one.crop((8, 8, 108, 108)), float)
    assert np.abs(drawn - np.asarray(texture(0).resize((100, 100)), float)).mean() < 3
    arrays = source.take(np.arange(16)).load((30, 40), progress=False)
    assert contact_sheet([(0, 15)], arrays.modalities["image"], tile=64).size == (
        *(152, 122),
    )
    with pytest.raises(ValueError, match="no pairs"):
        contact_sheet([], paths)
    with pytest.raises(ValueError, match=r"pair \(0, 99\).*17 images"):
        contact_sheet([(0, 99)], paths)
