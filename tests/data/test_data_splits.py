import json
import warnings

import numpy as np
import pytest

from drifa_keras.data import Source, Split, phantoms, split


@pytest.fixture(scope="module")
def source():
    return phantoms(n=600, modalities=("dermoscopy",))[0]


def test_grouped_and_stratified(source):
    parts = split(source)
    parts.assert_disjoint(source)
    rows = np.concatenate(list(parts.parts().values()))
    assert np.array_equal(np.sort(rows), np.arange(600))
    labels = source.targets["skin_lesion"]
    for part, share in zip(parts.parts().values(), (0.8, 0.1, 0.1), strict=True):
        assert abs(len(part) / 600 - share) < 0.02
        assert np.abs(np.bincount(labels[part]) / len(part) - 0.25).max() < 0.06


def test_seeded(source):
    first, second, other = split(source), split(source), split(source, seed=1)
    assert np.array_equal(first.test, second.test)
    assert not np.array_equal(first.test, other.test)


@pytest.mark.parametrize(
    "fractions", [(0.6, 0.2, 0.2), (0.7, 0.15, 0.15), (0.5, 0, 0.5)]
)
def test_other_fractions(source, fractions):
    parts = split(source, fractions)
    for part, share in zip(parts.parts().values(), fractions, strict=True):
        assert abs(len(part) / 600 - share) < 0.03
    everything = split(source, (1, 0, 0))
    assert len(everything.train) == 600 and not len(everything.test)


@pytest.mark.parametrize(
    "fractions", [(0.8, 0.1), (0.8, 0.1, 0.3), (0, 0.5, 0.5), (1.1, -0.1, 0)]
)
def test_bad_fractions(source, fractions):
    with pytest.raises(ValueError, match="fractions="):
        split(source, fractions)


def test_straddling_group_is_named(source):
    group, counts = np.unique(source.groups, return_counts=True)
    rows = np.flatnonzero(source.groups == group[counts.argmax()])
    with pytest.raises(ValueError, match=str(group[counts.argmax()])):
        Split(rows[:1], [], rows[1:]).assert_disjoint(source)
    with pytest.raises(ValueError, match="more than once"):
        Split([0, 0], [], []).assert_disjoint(source)
    with pytest.raises(ValueError, match="600 cases"):
        Split([600], [], []).assert_disjoint(source)


def test_json_round_trip_on_another_copy(source):
    parts = split(source)
    order = np.random.default_rng(0).permutation(600)
    shuffled = source.take(order)
    back = Split.from_json(parts.to_json(), shuffled)
    for name, rows in parts.parts().items():
        assert np.array_equal(
            np.sort(shuffled.ids[back.parts()[name]]), np.sort(source.ids[rows])
        )
    assert Split.from_json(parts.to_dict(), source).to_json() == parts.to_json()


def test_json_problems(source):
    table = split(source).to_dict()
    with pytest.raises(ValueError, match="lacks ids"):
        Split.from_json({**table, "val": []}, source)
    with pytest.raises(
        ValueError, match="'dermoscopy|ids that the source lacks.*nobody"
    ):
        Split.from_json({**table, "val": [*table["val"], "nobody"]}, source)
    with pytest.raises(ValueError, match="two parts"):
        Split.from_json({**table, "val": [*table["val"], table["test"][0]]}, source)
    for text in ("{", "[]", json.dumps({"train": []})):
        with pytest.raises(ValueError, match="Not a saved split"):
            Split.from_json(text, source)
    with pytest.raises(ValueError, match="does not know its ids"):
        Split([0], [], []).to_json()


def test_groups_travel_with_the_split(make_source):
    grouped = make_source(40, groups=np.arange(40) // 4)
    parts = split(grouped)
    # A reader that knows nothing of the groups.
    back = Split.from_json(parts.to_json(), make_source(40))
    assert back.groups.tolist() == [str(g) for g in np.arange(40) // 4]
    table = parts.to_dict()
    table["groups"] = dict.fromkeys(table["groups"], "all one")
    with pytest.raises(ValueError, match="'all one'.*is in both"):
        Split.from_json(table, grouped)
    table["groups"] = {table["train"][0]: "alone"}
    with pytest.raises(ValueError, match="no group for"):
        Split.from_json(table, grouped)
    without = {part: table[part] for part in ("train", "val", "test")}
    assert Split.from_json(without, grouped).groups.tolist() == grouped.groups.tolist()


def test_shares_of_brats_subjects():
    n = 369
    source = Source(
        "brats2020",
        {"flair": np.ones((n, 8, 8, 1), np.uint8)},
        {"tumor": np.arange(n) % 2},
        {"tumor": ("absent", "present")},
    )
    sizes = [len(rows) for rows in split(source).parts().values()]
    np.testing.assert_allclose(sizes, [201, 35, 133], atol=3)


def test_rare_class_warns_and_does_not_crash(make_source):
    labels = np.zeros(40, int)
    labels[:2] = 1
    source = make_source(40, targets={"label": labels}, groups=["g", "g", *range(38)])
    with pytest.warns(UserWarning, match=r"'c1'.*1 group\(s\).*absent from"):
        parts = split(source)
    assert sum(len(rows) for rows in parts.parts().values()) == 40


def test_one_class_only(make_source):
    source = make_source(30, targets={"label": np.zeros(30, int)})
    parts = split(source)
    assert [len(rows) for rows in parts.parts().values()] == [24, 3, 3]


@pytest.mark.parametrize(("images", "classes"), [(30, 5), (9, 9), (8, 4)])
def test_few_images_a_class(make_source, images, classes):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes absent from a part
        parts = split(make_source(images, classes=classes))
    sizes = [len(rows) for rows in parts.parts().values()]
    assert sum(sizes) == images and min(sizes) >= 1 and sizes[0] >= images / 2


def test_few_groups(make_source):
    source = make_source(
        20, groups=np.repeat(list("abcd"), 5), targets={"label": [0, 1] * 10}
    )
    parts = split(source)
    assert all(len(rows) for rows in parts.parts().values())
    with pytest.raises(ValueError, match="1 group"):
        split(make_source(20, groups=["a"] * 20))


def test_several_tasks_are_stratified_together():
    rng = np.random.default_rng(0)
    n = 400
    source = Source(
        "two",
        {"m": np.ones((n, 8, 8, 1), np.uint8)},
        {
            "a": rng.integers(0, 2, n),
            "b": rng.choice([-1, 0, 1, 2], n, p=[0.01, 0.3, 0.39, 0.3]),
        },
        {"a": ("x", "y"), "b": ("x", "y", "z")},
    )
    parts = split(source)
    joint = source.targets["a"] * 3 + source.targets["b"]
    whole = np.bincount(joint[joint >= 0]) / n
    part = joint[parts.train]
    assert np.abs(np.bincount(part[part >= 0]) / len(part) - whole).max() < 0.03


def test_official(make_source):
    names = ["train"] * 6 + ["val"] * 2 + ["test"] * 2
    parts = split(make_source(10, official_split=names), official=True)
    assert parts.val.tolist() == [6, 7]
    with pytest.raises(ValueError, match="no official split"):
        split(make_source(10), official=True)
    leaking = make_source(10, official_split=names, groups=["a"] * 10)
    with pytest.warns(UserWarning, match="'toy' leaks"):
        parts = split(leaking, official=True)
    assert parts.test.tolist() == [8, 9]
    with pytest.raises(ValueError, match="'a'.*both train and val"):
        Split.from_json(parts.to_json(), leaking)
    back = Split.from_json(parts.to_json(), leaking, allow_leakage=True)
    assert back.to_json() == parts.to_json()
