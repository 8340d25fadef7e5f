import numpy as np
import pytest

from drifa_keras.data import phantoms

EVERY = ("dermoscopy", "ct", "pap_smear", "mri")


@pytest.fixture(scope="module")
def sources():
    return phantoms(n=400, modalities=EVERY)


def test_shapes_and_classes(sources):
    expected = [("skin_lesion", 4, 3), ("ct_nodule", 3, 1)]
    expected += [("cervical_cell", 3, 3), ("brain_tumor", 3, 1)]
    for source, name, (task, classes, channels) in zip(
        sources, EVERY, expected, strict=True
    ):
        assert source.modalities[name].shape == (400, 32, 32, channels)
        assert len(source.class_names[task]) == classes
        counts = np.bincount(source.targets[task])
        assert counts.min() > 0.7 * counts.max()
        assert 200 < len(np.unique(source.groups)) < 390
        assert (source.modalities[name].reshape(400, -1).max(1) > 0).all()


def test_seeded(sources):
    again = phantoms(n=400, modalities=("ct",))[0]
    assert np.array_equal(again.modalities["ct"], sources[1].modalities["ct"])
    other = phantoms(n=400, modalities=("ct",), seed=1)[0]
    assert not np.array_equal(other.modalities["ct"], again.modalities["ct"])


def test_masks_are_the_lesions(sources):
    for source, name in zip(sources, EVERY, strict=True):
        images = source.modalities[name].astype(float).mean(-1)
        mask = source.masks[name]
        assert mask.shape == images.shape and mask.dtype == bool
        area = mask.mean((1, 2))
        assert (area > 0.05).all() and (area < 0.4).all()
        centre = images[:, 8:24, 8:24]
        contrast = np.array(
            [
                c[m].mean() - c[~m].mean()
                for c, m in zip(centre, mask[:, 8:24, 8:24], strict=True)
            ]
        )
        darker = source.modalities[name].shape[-1] == 3
        assert np.mean(contrast < 0 if darker else contrast > 0) > 0.95


def test_class_shows_in_neither_place_size_nor_brightness(sources):
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import cross_val_score

    for source, name in zip(sources, EVERY, strict=True):
        images, mask = source.modalities[name].astype(float), source.masks[name]
        (labels,) = source.targets.values()
        rows = np.indices(mask.shape)[1:]
        features = np.stack(
            [
                images.mean((1, 2, 3)),
                *((mask * r).sum((1, 2)) / mask.sum((1, 2)) for r in rows),
            ],
            axis=1,
        )
        forest = RandomForestClassifier(50, min_samples_leaf=10, random_state=0)
        score = cross_val_score(forest, features, labels, cv=4).mean()
        assert score < 1 / (labels.max() + 1) + 0.15, name


def test_difficulty_lowers_contrast_and_raises_noise():
    easy, hard = (
        phantoms(n=200, modalities="dermoscopy", difficulty=d)[0] for d in (0.0, 1.0)
    )

    def contrast(source):
        images = source.modalities["dermoscopy"].astype(float).mean(-1)
        mask = source.masks["dermoscopy"]
        return np.mean(
            [i[~m].mean() - i[m].mean() for i, m in zip(images, mask, strict=True)]
        )

    def noise(source):
        corner = source.modalities["dermoscopy"][:, :4, :4].astype(float)
        return np.median(corner.std((1, 2)))

    assert contrast(hard) < 0.5 * contrast(easy)
    assert noise(hard) > 2 * noise(easy)


def test_aligned_cases_share_class_and_place():
    (source,) = phantoms(n=60, image_size=40, modalities=("mri", "ct"), aligned=True)
    assert list(source.targets) == ["lesion"]
    assert source.modalities["mri"].shape == (60, 40, 40, 1)
    assert np.array_equal(source.masks["mri"], source.masks["ct"])
    assert not np.array_equal(source.modalities["mri"], source.modalities["ct"])


def test_small_lesions_lie_anywhere():
    (source,) = phantoms(n=300, image_size=64, modalities="ct", lesion_size=0.4)
    mask = source.masks["ct"]
    assert mask.sum((1, 2)).min() > 60 and mask.mean() < 0.05
    shown = mask.mean(0)
    assert shown.max() < 0.12  # no pixel is in many lesions
    assert (shown[8:-8, 8:-8] > 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 32, "lesion_size": 0.4}, "40 or more"),
        ({"lesion_size": 1.1}, "at most 1"),
        ({"n": 0}, "n=0"),
        ({"image_size": 8}, "16 or more"),
        ({"difficulty": 2}, "difficulty=2"),
        ({"modalities": ("xray",)}, "dermoscopy, ct"),
        ({"modalities": ("ct", "ct")}, "different"),
        ({"modalities": ()}, "empty"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        phantoms(**arguments)
