"""A whole run: what the folder holds, and that it can be had again."""

import csv
import json

import keras
import numpy as np
import pytest
import yaml

from drifa_keras.configs import parse_config
from drifa_keras.data import once
from drifa_keras.runs import Run, read_sources
from drifa_keras.training import prepare, train
from harness import as_numpy


def history(folder):
    with open(folder / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_run_folder_holds_what_others_read(trained):
    names = {path.name for path in trained.folder.iterdir()}
    assert {"config.yaml", "splits.json", "model.keras", "history.csv"} <= names


def test_history_has_a_row_an_epoch_and_columns_by_task(trained):
    rows = history(trained.folder)
    assert [row["epoch"] for row in rows] == ["0", "1"]
    for part in ("", "val_"):
        assert f"{part}loss" in rows[0]
        for task in ("skin_lesion", "ct_nodule"):
            for name in ("loss", "accuracy"):
                value = float(rows[-1][f"{part}{task}_{name}"])
                assert np.isfinite(value)
                assert value >= 0


def test_splits_share_no_group_and_cover_every_image(trained):
    saved = json.loads((trained.folder / "splits.json").read_text())
    sources = {s.name: s for s in read_sources(trained.config).sources}
    assert set(saved) == set(sources)
    for name, source in sources.items():
        parts = saved[name]
        grouped = parts.pop("groups")
        assert grouped == dict(zip(source.ids, source.groups, strict=True))
        assert set(parts) == {"train", "val", "test"}
        ids = [image for part in parts.values() for image in part]
        assert sorted(ids) == sorted(source.ids.tolist())
        group = dict(zip(source.ids, source.groups, strict=True))
        groups = [{group[image] for image in part} for part in parts.values()]
        assert sum(map(len, groups)) == len(set.union(*groups))
        assert len(parts["train"]) / len(ids) == pytest.approx(0.8, abs=0.07)


def test_config_has_seeds_and_versions(trained):
    content = yaml.safe_load((trained.folder / "config.yaml").read_text())
    assert content["seed"] == 11
    assert content["data"]["split_seed"] == 0
    assert content["training"]["learning_rate"] == 1e-3  # defaults are written out
    resolved = content["resolved"]
    assert resolved["backend"] == keras.backend.backend()
    assert resolved["versions"]["keras"] == keras.__version__
    assert {"python", "numpy", "drifa_keras"} <= set(resolved["versions"])
    assert resolved["class_names"]["ct_nodule"] == ["solid", "spiculated", "cavitary"]


def test_run_opens_again(trained):
    run = Run.open(trained.folder)
    assert run.config == trained.config
    assert run.class_names == trained.class_names
    model = run.load_model()
    assert model.tasks == {"ct_nodule": 3, "skin_lesion": 4}
    assert model.modalities == {"ct": (16, 16, 1), "dermoscopy": (16, 16, 3)}


def test_model_that_is_kept_is_that_of_the_best_epoch(trained):
    losses = [float(row["val_loss"]) for row in history(trained.folder)]
    best = int(np.argmin(losses)) + 1
    # An epoch is 16 pairs in batches of 4; the optimizer is kept for what follows.
    iterations = trained.load_model().optimizer.iterations
    assert int(as_numpy(iterations)) == 4 * best


def test_validation_is_a_mean_in_which_each_image_has_the_same_say(
    make_config, tmp_path
):
    sources = [
        {"reader": "phantoms", "options": {"n": n, "image_size": 16, "modalities": [x]}}
        for n, x in ((130, "dermoscopy"), (100, "ct"))
    ]
    content = make_config(epochs=1).model_dump(mode="json")
    content["data"]["sources"] = sources
    config = parse_config(content)
    run = train(config, tmp_path / "run", verbose=0)
    prepared = prepare(config, run=run, verbose=0)
    pairing = prepared.splits.take(prepared.pairing, "val")
    assert [len(source) for source in pairing.sources] == [13, 10]  # in batches of 7

    dataset, indices, _ = once(
        pairing, image_size=config.data.size, batch_size=len(pairing)
    )
    outputs = run.load_model().predict(next(iter(dataset)), verbose=0)
    (row,) = history(run.folder)
    total = 0
    for column, source in enumerate(pairing.sources):
        ((task, labels),) = source.targets.items()
        rows = np.arange(len(indices))
        losses = -np.log(outputs[task][rows, labels[indices[:, column]]])
        of_image = np.bincount(indices[:, column], losses)
        of_image /= np.bincount(indices[:, column])
        assert float(row[f"val_{task}_loss"]) == pytest.approx(of_image.mean(), 1e-4)
        total += of_image.mean() / 2
    assert float(row["val_loss"]) == pytest.approx(total, 1e-4)


def test_folder_is_never_overwritten(trained, make_config, tmp_path):
    before = {p.name: p.read_bytes() for p in trained.folder.iterdir()}
    with pytest.raises(ValueError, match="exists already") as error:
        train(make_config(), trained.folder, verbose=0)
    assert str(trained.folder) in str(error.value)
    assert {p.name: p.read_bytes() for p in trained.folder.iterdir()} == before
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(ValueError, match="exists already"):
        train(make_config(), file, verbose=0)
    assert file.read_text() == "mine"


def test_same_seed_same_run(make_config, tmp_path):
    config = make_config(modalities=["ct"], arguments={"dropout": 0.2})
    one, two = (train(config, tmp_path / name, verbose=0) for name in "ab")
    rows = [history(run.folder) for run in (one, two)]
    for row in (*rows[0], *rows[1]):
        assert float(row.pop("seconds_per_step")) > 0
    assert rows[0] == rows[1]
    for first, second in zip(
        one.load_model().weights, two.load_model().weights, strict=True
    ):
        np.testing.assert_array_equal(as_numpy(first), as_numpy(second))
    splits = [(run.folder / "splits.json").read_text() for run in (one, two)]
    assert splits[0] == splits[1]
    # With one task, too, the columns say which.
    assert {"ct_nodule_accuracy", "val_ct_nodule_loss"} <= set(history(one.folder)[0])


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"arguments": {"mffa": False}}, ("mffa",)),
        ({"arguments": {"mfa": {"clea": False}}}, ("'clea'", "'clia'")),
        ({"loss_weights": {"ct_nodule": 1.0}}, ("`loss_weights`", "'skin_lesion'")),
        ({"batch_size": 17}, ("batch_size=17", "16 pairs")),
    ],
)
def test_mistake_in_the_configuration_is_named(change, parts, make_config, tmp_path):
    with pytest.raises((ValueError, TypeError)) as error:
        train(make_config(**change), tmp_path / "run", verbose=0)
    for part in parts:
        assert part in str(error.value)


def test_dtype_of_the_configuration_reaches_the_network(make_config):
    from drifa_keras.training.train import build_model

    config = make_config(dtype="mixed_bfloat16")
    model = build_model(config, read_sources(config))
    assert model.dtype_policy.name == "mixed_bfloat16"
    assert model.get_layer("ct_stage0_block0").compute_dtype == "bfloat16"
