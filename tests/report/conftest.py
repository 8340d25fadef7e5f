"""Run folders made by hand: all that a report reads, from numbers and noise."""

import csv

import numpy as np
import pytest

from drifa_keras import uncertainty
from drifa_keras.configs import parse_config
from drifa_keras.evaluation import (
    PassPredictions,
    TaskPredictions,
    summarize,
    summarize_uncertainty,
)
from drifa_keras.runs import Run

CLASS_NAMES = {"lesion": ("benign", "malignant"), "cell": ("a", "b", "c", "d")}


def predictions(classes, images=120, draws=3, seed=0):
    """Labels, and probabilities that mostly fit them, `(draws, images, classes)`."""
    rng = np.random.default_rng(seed)
    y_true = rng.integers(classes, size=images)
    logits = rng.normal(size=(images, classes)) + 1.5 * np.eye(classes)[y_true]
    logits = logits + rng.normal(size=(draws, images, classes)) / 2
    probabilities = np.exp(logits)
    return y_true, probabilities / probabilities.sum(axis=-1, keepdims=True)


@pytest.fixture(scope="session")
def make_run(tmp_path_factory):
    """Make a run folder; what `without` names is left out."""

    def make(
        name="study",
        class_names=CLASS_NAMES,
        leakage=(),
        without=(),
        prefix="image",
        size=24,
    ):
        config = parse_config(
            {
                "name": name,
                "seed": 7,
                "data": {"sources": [{"reader": "phantoms"}], "image_size": size},
            }
        )
        folder = tmp_path_factory.mktemp("runs") / "run"
        run = Run.create(config, class_names, folder, leakage)
        write = {
            "history": _write_history,
            "splits": _write_splits,
            "metrics": _write_metrics,
            "uncertainty": _write_uncertainty,
            "explain": _write_explain,
            "robustness": _write_robustness,
        }
        for part, function in write.items():
            if part not in without:
                function(run, [f"{prefix}/{number:04}" for number in range(120)])
        return run

    return make


def _write_history(run, ids):
    tasks = ["", *(f"{task}_" for task in run.class_names)]
    names = [f"{part}{task}loss" for part in ("", "val_") for task in tasks]
    names += [f"{part}{task}accuracy" for part in ("", "val_") for task in tasks[1:]]
    with (run.folder / "history.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", *names])
        for epoch, value in enumerate((0.9, 0.3, 0.5)):
            writer.writerow([epoch, *(value for _ in names)])


def _write_splits(run, ids):
    parts = {"train": ids[:60], "val": ids[60:90], "test": ids[90:]}
    groups = {name: f"patient-{number // 3}" for number, name in enumerate(ids)}
    run.write_json("splits.json", {"slides": {**parts, "groups": groups}})


def _write_metrics(run, ids):
    arrays, tasks = {}, {}
    for task, names in run.class_names.items():
        y_true, probabilities = predictions(len(names))
        found = TaskPredictions(np.array(ids), np.array(ids), y_true, probabilities)
        tasks[task] = summarize(found, names, bootstrap=20)
        arrays[f"{task}.id"] = found.ids
        arrays[f"{task}.y_true"] = y_true
        arrays[f"{task}.probabilities"] = probabilities
    np.savez(run.folder / "predictions.npz", **arrays)
    first = next(iter(tasks))
    run.write_json(
        "metrics.json",
        {
            "split": "test",
            "seed": 7,
            "tasks": tasks,
            "baselines": {"majority_class": tasks},
            "missing": {"microscopy": {first: tasks[first]}},
        },
    )


def _write_uncertainty(run, ids):
    arrays, tasks = {}, {}
    for task, names in run.class_names.items():
        y_true, passes = predictions(len(names), draws=6)
        found = PassPredictions(
            np.array(ids), np.array(ids), y_true, passes[:1], passes[1:]
        )
        tasks[task] = summarize_uncertainty(found, found, names, divisions=2)
        of_task = {
            "id": found.ids,
            "y_true": y_true,
            "plain": passes[0],
            "mean": passes[1:].mean(axis=0),
            "predictive_entropy": uncertainty.predictive_entropy(passes[1:]),
            "mutual_information": uncertainty.mutual_information(passes[1:]),
            "most_certain.microscopy": _images(run, 8),
            "least_certain.microscopy": _images(run, 8),
        }
        arrays |= {f"{task}.{name}": array for name, array in of_task.items()}
    np.savez(run.folder / "uncertainty.npz", **arrays)
    content = {"split": "test", "seed": 7, "tasks": tasks}
    run.write_json("uncertainty.json", content)


def _write_explain(run, ids):
    arrays, tasks = {}, {}
    rng = np.random.default_rng(1)
    for task, names in run.class_names.items():
        y_true, probabilities = predictions(len(names))
        cases = [
            {"id": ids[k], "kind": kind, "true": 0, "predicted": guess}
            | {"probability": 0.75}
            for k, (kind, guess) in enumerate(
                [("right", 0), ("right", 0), ("wrong", 1), ("uncertain", 1)]
            )
        ]
        effects = {"microscopy": {"blank": 0.411, "shuffled": 0.322, "flipped": 0.25}}
        tasks[task] = {"classes": list(names), "cases": cases, "effects": effects}
        arrays |= {
            f"{task}.image.microscopy": _images(run, 4),
            f"{task}.map.microscopy": rng.uniform(size=(4, 6, 6)),
            f"{task}.points": rng.normal(size=(120, 2)),
            f"{task}.y_true": y_true,
            f"{task}.y_pred": probabilities[0].argmax(axis=1),
        }
    np.savez(run.folder / "explain.npz", **arrays)
    run.write_json("explain.json", {"split": "test", "seed": 7, "tasks": tasks})


def _write_robustness(run, ids):
    """Of a random network; one check of one task fails."""
    sizes = [1 / 255, 4 / 255]

    def accuracy(value):
        return {"value": value, "interval": [value / 2, (1 + value) / 2]}

    arrays, tasks, checks = {"eps": np.float32(4 / 255)}, {}, []
    for which in ("clean", "attacked"):
        arrays[f"image.{which}.microscopy"] = _images(run, 2).astype("float32")
    for number, (task, names) in enumerate(run.class_names.items()):
        attacks = [
            {"attack": attack, "eps": eps, "aim": aim, "changed": "all"}
            | {"draws": draws, "accuracy": accuracy(0.6 / draws)}
            for eps in sizes
            for aim in ("all", task)
            for attack, draws in (("PGD-20", 1), ("PGD-20", 5), ("Square-500", 1))
        ]
        tasks[task] = {
            "images": 30,
            "classes": list(names),
            "clean": accuracy(0.625),
            "attacks": attacks,
            "union": [{"eps": eps, "accuracy": accuracy(0.111)} for eps in sizes],
            "steps": [{"steps": k, "accuracy": accuracy(0.5 / k)} for k in (1, 10)],
        }
        checks += [
            {"check": "steps", "task": task, "value": 0.0, "holds": True},
            {"check": "unbounded", "task": task, "value": 0.25, "holds": number > 0},
            {"check": "frozen", "task": task, "value": None, "holds": None},
        ]
        arrays |= {f"{task}.clean": [0, 0], f"{task}.attacked": [1, 0]}
    np.savez(run.folder / "robustness.npz", **arrays)
    settings = {"protocol": "light", "trained": {"eps": 2 / 255, "steps": 3}}
    settings |= {"images": 30, "eps": sizes, "random": True, "draws": [1, 5]}
    settings |= {"votes": 10, "seed": 7, "check_at": 4 / 255}
    run.write_json("robustness.json", {**settings, "tasks": tasks, "checks": checks})


def _images(run, count):
    rng = np.random.default_rng(2)
    height, width = run.config.data.size
    coarse = rng.integers(1, 256, (count, height // 8, width // 8, 3))
    return coarse.repeat(8, axis=1).repeat(8, axis=2).astype("uint8")
