import numpy as np
import pytest

from drifa_keras.data import align, pair, phantoms


@pytest.fixture
def pairing(make_source):
    return pair(
        [
            make_source(10, name="a"),
            make_source(7, name="b", modality="cell", task="kind", classes=3),
        ]
    )


def test_what_it_says_of_itself(pairing):
    assert len(pairing) == 10
    assert pairing.modalities == {"skin": 3, "cell": 3}
    assert pairing.shapes((4, 5)) == {"skin": (4, 5, 3), "cell": (4, 5, 3)}
    assert pairing.tasks == {"label": 2, "kind": 3}
    assert pairing.class_names["kind"] == ("c0", "c1", "c2")


def test_epoch_shows_everything_evenly_with_fresh_partners(pairing):
    first, second = pairing.epoch(0, 0), pairing.epoch(0, 1)
    for indices in (first, second):
        assert np.bincount(indices[:, 0]).tolist() == [1] * 10
        assert set(np.bincount(indices[:, 1], minlength=7).tolist()) == {1, 2}
    partners = [{tuple(row) for row in rows.tolist()} for rows in (first, second)]
    assert partners[0] != partners[1]
    assert np.array_equal(first, pairing.epoch(0, 0))
    assert not np.array_equal(first, pairing.epoch(1, 0))


def test_epoch_of_any_size(pairing):
    assert pairing.epoch(0, 0, 4).shape == (4, 2)
    counts = np.bincount(pairing.epoch(0, 0, 35)[:, 0])
    assert counts.tolist().count(3) == 5 and counts.tolist().count(4) == 5


def test_once_counts_each_image_once(pairing):
    indices, counted = pairing.once(0, 0)
    assert indices.shape == counted.shape == (10, 2)
    for column, n in enumerate((10, 7)):
        shown = indices[counted[:, column], column]
        assert np.array_equal(np.sort(shown), np.arange(n))
    again, _ = pairing.once(0, 0)
    other, _ = pairing.once(0, 1)
    assert np.array_equal(indices, again)
    assert np.array_equal(indices[:, 0], other[:, 0])
    assert not np.array_equal(indices[:, 1], other[:, 1])


def test_take(pairing):
    part = pairing.take([[0, 1, 2], [4, 5]])
    assert len(part) == 3 and len(part.sources[1]) == 2
    with pytest.raises(ValueError, match="1 index arrays for 2"):
        pairing.take([[0]])
    with pytest.raises(ValueError, match="'b' has no cases"):
        pairing.take([[0], []])


def test_names_must_differ(make_source):
    with pytest.raises(ValueError, match="'a' and 'b' both have the modality 'skin'"):
        pair([make_source(name="a"), make_source(name="b", task="other")])
    with pytest.raises(ValueError, match="'a' and 'b' both have the task 'label'"):
        pair([make_source(name="a"), make_source(name="b", modality="other")])
    with pytest.raises(ValueError, match="no source"):
        pair([])


def test_align_keeps_true_pairs(make_source):
    (source,) = phantoms(n=12, aligned=True)
    pairing = align(source)
    assert pairing.modalities == {"dermoscopy": 3, "ct": 1}
    assert pairing.epoch(0, 0).shape == (12, 1)
    with pytest.raises(ValueError, match="use pair"):
        align([source])


def test_channels_of_paths(make_source):
    source = make_source(2, modalities={"skin": ["a.png", "b.png"]})
    assert pair([source]).modalities == {"skin": 3}
    assert pair([source], channels=1).modalities == {"skin": 1}
    assert pair([source], channels={"skin": 1}).take([[0]]).modalities == {"skin": 1}
