import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from drifa_keras.data import (
    Augment,
    align,
    batches,
    class_weights,
    once,
    pair,
    phantoms,
    steps_per_epoch,
)
from drifa_keras.data._exit import PythonCalls

pytest.importorskip("tensorflow")
SIZE = {"image_size": (8, 8), "batch_size": 4}


def collect(dataset, n=None):
    return list((dataset if n is None else dataset.take(n)).as_numpy_iterator())


def same(first, second):
    return len(first) == len(second) and all(
        np.array_equal(a[key], b[key])
        for left, right in zip(first, second, strict=True)
        for a, b in zip(left, right, strict=True)
        for key in a
    )


@pytest.fixture
def pairing(make_source):
    return pair(
        [
            make_source(10, name="a"),
            make_source(7, name="b", modality="cell", task="kind", classes=3),
        ]
    )


def test_batches_hold_what_the_indices_say(pairing):
    dataset = batches(pairing, **SIZE, seed=5, epochs=2)
    assert int(dataset.cardinality()) == 4
    for step, (images, targets, weights) in enumerate(collect(dataset)):
        rows = pairing.epoch(5, step // 2)[(step % 2) * 4 :][:4]
        assert images["skin"].dtype == np.uint8
        assert images["skin"].shape == (4, 8, 8, 3)
        assert np.array_equal(images["skin"][:, 0, 0, 0], rows[:, 0] + 1)
        assert np.array_equal(images["cell"][:, 3, 5, 2], rows[:, 1] + 1)
        assert targets["kind"].dtype == np.float32
        assert np.array_equal(targets["kind"], np.eye(3)[rows[:, 1] % 3])
        assert np.array_equal(weights["kind"], np.ones(4))


def test_endless_and_static_shapes(pairing):
    dataset = batches(pairing, **SIZE)
    assert int(dataset.cardinality()) == -1
    assert len(collect(dataset, 9)) == 9
    images, targets, _ = dataset.element_spec
    assert images["skin"].shape == (4, 8, 8, 3) and targets["label"].shape == (4, 2)


def test_pairs_per_epoch(pairing):
    assert len(collect(batches(pairing, **SIZE, epochs=1, pairs_per_epoch=21))) == 5
    assert steps_per_epoch(pairing, 4) == 2
    assert steps_per_epoch(pairing, 4, drop_remainder=False) == 3
    assert steps_per_epoch(pairing, 4, 21) == 5


def test_class_weights():
    labels = np.array([0, 0, 0, 1, -1])
    weights = class_weights(labels, ("x", "y", "z"))
    assert np.allclose(weights, [2 / 3, 2, 0])
    assert np.isclose(weights[labels[:4]].mean(), 1)
    with pytest.raises(ValueError, match="0..1"):
        class_weights([2], 2)


def test_unknown_labels_and_class_weights(make_source):
    source = make_source(8, targets={"label": [0, 1, -1, 0, 1, -1, 0, 1]})
    table = {"label": np.array([0.5, 2.0])}
    ((_, targets, weights), *_) = collect(
        batches(
            align(source),
            image_size=(8, 8),
            batch_size=8,
            epochs=1,
            class_weights=table,
        )
    )
    labels = source.targets["label"][align(source).epoch(0, 0)[:, 0]]
    expected = np.where(labels < 0, 0, np.append(table["label"], 0)[labels])
    assert np.array_equal(weights["label"], expected)
    assert np.array_equal(targets["label"].sum(-1), labels >= 0)


def test_validation_gives_each_image_the_same_say(pairing):
    seen = collect(batches(pairing, **SIZE, training=False))
    assert sum(len(images["skin"]) for images, _, _ in seen) == 10
    for modality, task, n in (("skin", "label", 10), ("cell", "kind", 7)):
        pixel = np.concatenate([images[modality][:, 0, 0, 0] for images, _, _ in seen])
        weight = np.concatenate([weights[task] for _, _, weights in seen])
        assert np.allclose(np.bincount(pixel, weight)[1:], 10 / n)
    assert same(seen, collect(batches(pairing, **SIZE, training=False)))


def test_the_last_batch_is_padded_with_what_weighs_nothing(pairing):
    plain = collect(batches(pairing, **SIZE, training=False))
    dataset = batches(pairing, **SIZE, training=False, pad_remainder=True, epochs=2)
    assert dataset.element_spec[0]["skin"].shape == (4, 8, 8, 3)
    padded = collect(dataset)
    assert len(plain) == 3 and same(padded[:3], padded[3:])
    for (images, targets, weights), (more_images, more_targets, more_weights) in zip(
        plain, padded[:3], strict=True
    ):
        count = len(images["skin"])
        for name, values in more_images.items():
            assert len(values) == 4
            assert np.array_equal(values[:count], images[name])
        for task, values in more_weights.items():
            assert np.array_equal(more_targets[task][:count], targets[task])
            assert np.allclose(values[:count], 12 / 10 * weights[task])
            assert not values[count:].any()


def test_once(pairing):
    dataset, indices, counted = once(pairing, **SIZE, seed=1, draw=2)
    images = collect(dataset)
    assert [len(batch["skin"]) for batch in images] == [4, 4, 2]
    for column, name in enumerate(("skin", "cell")):
        pixel = np.concatenate([batch[name][:, 0, 0, 0] for batch in images])
        assert np.array_equal(pixel, indices[:, column] + 1)
    assert counted.sum(0).tolist() == [10, 7]


def test_paths_are_decoded_on_the_fly_and_absent_images_blank(tmp_path, make_source):
    paths = []
    for value in (60, 120, 180):
        paths.append(str(tmp_path / f"{value}.png"))
        Image.new("RGB", (30, 20), (value, value, value)).save(paths[-1])
    source = make_source(4, modalities={"skin": [*paths, None]})
    for channels in (1, 3):
        dataset, indices, _ = once(align(source, channels), **SIZE)
        (images,) = collect(dataset)
        assert images["skin"].shape == (4, 8, 8, channels)
        got = images["skin"][np.argsort(indices[:, 0]), 4, 4, 0]
        assert got.tolist() == [60, 120, 180, 0]
    loaded = source.load((8, 8), progress=False)
    assert same(
        collect(batches(align(source), **SIZE, epochs=2)),
        collect(batches(align(loaded), **SIZE, epochs=2)),
    )


def test_arrays_are_resized(make_source):
    (images,) = collect(once(align(make_source(4, size=20)), **SIZE)[0])
    assert images["skin"].shape == (4, 8, 8, 3)


def test_a_bad_file_is_named(tmp_path, make_source):
    (tmp_path / "bad.png").write_bytes(b"no image")
    source = make_source(4, modalities={"skin": [str(tmp_path / "bad.png")] * 4})
    with pytest.raises(Exception, match=r"bad\.png is truncated or not an image"):
        collect(batches(align(source), **SIZE, epochs=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 8}, "image_size=8"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 11}, "more than the 10 pairs"),
        ({"seed": -3}, "seed=-3"),
        ({"epochs": 1, "first_epoch": 1}, "nothing to do"),
        ({"class_weights": {"other": [1, 1]}}, "task 'other'"),
        ({"class_weights": {"label": [1, 1, 1]}}, "expected 2 finite"),
        ({"class_weights": {"label": [1, np.nan]}}, "expected 2 finite"),
        ({"training": False, "augment": Augment("vertical")}, "training images alone"),
        ({"training": False, "pairs_per_epoch": 5}, "leave it out"),
        ({"pad_remainder": True}, "training=True"),
        (
            {"training": False, "drop_remainder": True, "pad_remainder": True},
            "drop_remainder=True",
        ),
    ],
)
def test_bad_arguments(pairing, change, message):
    with pytest.raises(ValueError, match=message):
        batches(pairing, **{**SIZE, **change})


STRONG = Augment("horizontal_and_vertical", 0.1, 0.1, mixup=0.4, cutmix=0.6)


def test_same_seed_same_images_and_resume():
    pairing = pair(phantoms(n=40))
    options = {"image_size": (32, 32), "batch_size": 8, "augment": STRONG}
    whole = collect(batches(pairing, **options, seed=7, epochs=3))
    assert same(whole, collect(batches(pairing, **options, seed=7, epochs=3)))
    assert same(
        whole[10:], collect(batches(pairing, **options, seed=7, first_epoch=2), 5)
    )
    assert not same(whole, collect(batches(pairing, **options, seed=8, epochs=3)))
    # No two images of a batch, and no two batches, share their transform.
    assert not same(whole[:5], whole[5:10])


def test_import_needs_no_framework():
    code = (
        "import sys; sys.modules['drifa_keras'] = type(sys)('drifa_keras'); "
        "import os; sys.modules['drifa_keras'].__path__ = [os.path.join("
        "os.getcwd(), 'drifa_keras')]; import drifa_keras.data; "
        "print([m for m in ('tensorflow', 'keras', 'sklearn', 'matplotlib', 'torch') "
        "if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=__file__.split("tests")[0],
    )
    assert result.stdout.strip() == "[]"


def test_process_ends_while_a_pipeline_is_at_work():
    code = """
from drifa_keras.data import Augment, batches, pair, phantoms
pairing = pair(phantoms(40, image_size=64, modalities=["ct"]))
augment = Augment(flip="horizontal", rotation=0.1)
stream = iter(batches(pairing, image_size=(64, 64), batch_size=8, augment=augment))
for _ in range(3):
    next(stream)
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors.decode()
            assert b"Traceback" not in errors
    finally:
        for process in processes:
            process.kill()


def test_end_waits_for_what_runs():
    calls, done = PythonCalls(), []
    begun, go = threading.Event(), threading.Event()
    calls.end()  # at once: nothing was ever called

    @calls.counted
    def read():
        begun.set()
        go.wait()
        done.append(True)

    thread = threading.Thread(target=read)
    thread.start()
    begun.wait()
    threading.Timer(0.5, go.set).start()
    assert not done
    calls.end()
    assert done
    thread.join()
    assert calls.ending


def test_missing_tensorflow_is_one_line(pairing, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ImportError, match=r'pip install "drifa_keras\[tensorflow\]"'):
        batches(pairing, **SIZE)
