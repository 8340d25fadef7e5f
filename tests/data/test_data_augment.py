import numpy as np
import pytest

from drifa_keras.data import Augment, Source, align, batches, pair, phantoms

pytest.importorskip("tensorflow")


def run(source, augment, n=1, size=(32, 32), **options):
    options = {"batch_size": len(source), **options}
    dataset = batches(align(source), image_size=size, augment=augment, **options)
    return list(dataset.take(n).as_numpy_iterator())


def in_order(source, images):
    """Undo the shuffling of the first epoch."""
    return images[np.argsort(align(source).epoch(0, 0)[:, 0])]


@pytest.fixture(scope="module")
def twins():
    """Two modalities with equal pixels, and a third that is sometimes absent."""
    images = phantoms(n=24, modalities=("ct",))[0].modalities["ct"]
    holes = images.copy()
    holes[::3] = 0
    return Source(
        "twins",
        {"a": images, "b": images.copy(), "holes": np.repeat(holes, 3, -1)},
        {"t": np.arange(24) % 2, "u": np.arange(24) % 3 - 1},
        {"t": ("x", "y"), "u": ("x", "y")},
    )


@pytest.mark.parametrize(
    "augment",
    [
        Augment("horizontal_and_vertical", rotation=0.2, translation=0.2),
        Augment(rand_augment=True),
        Augment(mixup=0.4),
        Augment(cutmix=1.0),
        Augment("horizontal", 0.1, 0.1, mixup=0.4, cutmix=0.5),
    ],
    ids=["geometric", "rand_augment", "mixup", "cutmix", "all"],
)
def test_aligned_images_stay_aligned_and_absent_ones_absent(twins, augment):
    before = run(twins, None)[0][0]
    ((images, targets, weights),) = run(twins, augment)
    assert np.array_equal(images["a"], images["b"])
    assert not np.array_equal(images["a"], before["a"])
    blank = ~before["holes"].any((1, 2, 3))
    assert np.array_equal(~images["holes"].any((1, 2, 3)), blank)
    assert images["a"].dtype == np.uint8 and images["a"].shape == (24, 32, 32, 1)
    for task in ("t", "u"):
        total = targets[task].sum(-1)
        assert np.allclose(total, weights[task] > 0, atol=1e-5)


@pytest.mark.parametrize(
    ("flip", "expected"),
    [("horizontal", 2), ("vertical", 2), ("horizontal_and_vertical", 4)],
)
def test_flips(flip, expected):
    image = np.arange(1, 17, dtype=np.uint8).reshape(1, 4, 4, 1)
    source = Source("s", {"m": image.repeat(64, 0)}, {"t": [0, 1] * 32}, {"t": "xy"})
    ((images, targets, _),) = run(source, Augment(flip), size=(4, 4))
    assert len(np.unique(images["m"].reshape(64, -1), axis=0)) == expected
    for result in images["m"]:
        assert np.array_equal(np.sort(result.ravel()), np.arange(1, 17))
    assert np.array_equal(targets["t"].sum(-1), np.ones(64))


def test_translation_moves_whole_pixels():
    image = np.full((1, 16, 16, 1), 10, np.uint8)
    image[0, 8, 8] = 250
    source = Source("s", {"m": image.repeat(32, 0)}, {"t": [0, 1] * 16}, {"t": "xy"})
    ((images, _, _),) = run(source, Augment(translation=0.2), size=(16, 16))
    spots = np.argwhere(images["m"][..., 0] == 250)
    assert len(spots) == 32 and len(np.unique(spots[:, 1:], axis=0)) > 8
    assert np.abs(spots[:, 1:] - 8).max() <= 4


def constant_source(labels, classes=2):
    """Image i is 10 * (i + 1) everywhere, so that a mixture can be read off."""
    n = len(labels)
    images = np.zeros((n, 8, 8, 1), np.uint8)
    images += (10 * np.arange(1, n + 1, dtype=np.uint8))[:, None, None, None]
    names = tuple(str(i) for i in range(classes))
    return Source("s", {"m": images}, {"t": labels}, {"t": names})


def test_mixup_mixes_labels_like_images():
    source = constant_source(np.arange(16), 16)
    ((images, targets, weights),) = run(source, Augment(mixup=1.0), size=(8, 8))
    pixel = images["m"][:, 0, 0, 0]
    assert np.allclose(pixel, targets["t"] @ (10 * np.arange(1, 17)), atol=0.51)
    assert np.array_equal(weights["t"], np.ones(16))
    assert len(set(pixel % 10)) > 2


def test_cutmix_mixes_labels_like_areas():
    source = constant_source(np.arange(16), 16)
    ((images, targets, _),) = run(source, Augment(cutmix=1.0), size=(8, 8))
    areas = np.stack(
        [(images["m"] == 10 * (i + 1)).mean((1, 2, 3)) for i in range(16)], 1
    )
    # Boxes end between pixels; labels go by their exact area.
    assert np.abs(areas - targets["t"]).max() < 0.2
    assert (areas > 0).sum(1).max() == 2


@pytest.mark.parametrize("augment", [Augment(mixup=1.0), Augment(cutmix=1.0)])
def test_mixing_mixes_the_weighted_losses(augment):
    plain = constant_source(np.arange(8), 8)
    labels = np.array([0, 1, -1, 1, 0, -1, 1, 0])
    source = Source(
        "s",
        plain.modalities,
        {"who": np.arange(8), "t": labels},
        {"who": plain.class_names["t"], "t": ("x", "y")},
    )
    table = np.array([0.5, 3.0], np.float32)
    ((_, targets, weights),) = run(
        source, augment, size=(8, 8), class_weights={"t": table}
    )
    # Row i of the first target tells how much of each case went into image i.
    own = np.eye(3)[labels][:, :2] * np.append(table, 0)[labels][:, None]
    mass = targets["t"] * weights["t"][:, None]
    assert np.allclose(mass, targets["who"] @ own, atol=1e-5)


def test_modalities_of_unrelated_sources_differ():
    first, second = (
        Source(
            name,
            {name: phantoms(n=16, modalities=("ct",))[0].modalities["ct"]},
            {f"{name}_t": [0, 1] * 8},
            {f"{name}_t": "xy"},
        )
        for name in ("a", "b")
    )
    dataset = batches(
        pair([first, second]),
        image_size=(32, 32),
        batch_size=16,
        augment=Augment(rotation=0.2),
    )
    images = next(dataset.as_numpy_iterator())[0]
    assert not np.array_equal(images["a"], images["b"])


def test_independent_of_the_global_policy():
    import keras

    source = phantoms(n=8)[0]
    expected = run(source, Augment(rotation=0.1))
    policy = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_float16")
        got = run(source, Augment(rotation=0.1))
    finally:
        keras.config.set_dtype_policy(policy)
    assert np.array_equal(expected[0][0]["dermoscopy"], got[0][0]["dermoscopy"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"flip": "both"}, "flip='both'"),
        ({"rotation": 2}, "rotation=2"),
        ({"translation": -0.1}, "translation=-0.1"),
        ({"mixup": -1}, "0 or more"),
        ({"cutmix": 1.5}, "0 to 1"),
        ({"rand_augment": 3}, "rand_augment=3"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Augment(**arguments)


def test_active():
    assert not Augment().active
    assert Augment(mixup=0.2).active
