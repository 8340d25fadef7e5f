"""Scoring the test split of a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from drifa_keras import uncertainty
from drifa_keras.data import Pairing, once
from drifa_keras.data.images import resize_nearest
from drifa_keras.evaluation.baselines import baseline_predictions
from drifa_keras.evaluation.bootstrap import bootstrap_intervals
from drifa_keras.evaluation.metrics import classification_metrics
from drifa_keras.evaluation.segmentation import (
    MapPredictions,
    joined,
    map_predictions,
    summarize_maps,
)
from drifa_keras.runs import Run, load_images, read_sources, read_splits


@dataclass(frozen=True, eq=False)
class TaskPredictions:
    """Predictions of one task, each image once in each draw of partners.

    Attributes:
        ids: `(images,)` ids of the images.
        groups: `(images,)` which images belong together.
        y_true: `(images,)` integer labels.
        probabilities: `(draws, images, classes)`.
    """

    ids: np.ndarray
    groups: np.ndarray
    y_true: np.ndarray
    probabilities: np.ndarray


def predict_test(
    model,
    pairing: Pairing,
    image_size: tuple[int, int],
    draws: int = 3,
    seed: int = 0,
    batch_size: int = 64,
) -> dict[str, TaskPredictions | MapPredictions]:
    """Predicts every image of every source once, with several draws of partners.

    What classifies every pixel is predicted with the first draw alone.

    Args:
        model: A `MultimodalModel`.
        pairing: The test part.
        image_size: (height, width) of the model's images.
        draws: How often partners are drawn; one is enough, and all that is done,
            where there is one source only.
        seed: Seed of the draws.
        batch_size: Pairs at a time.

    Returns:
        Dict of task to `TaskPredictions`, of which images with an unknown label are
        left out, or `MapPredictions`.
    """
    if len(pairing.sources) == 1:
        draws = 1
    probabilities = {task: [] for task in pairing.tasks if task not in pairing.maps}
    results = {}
    for draw in range(draws if probabilities else 1):
        images, indices, counted = once(
            pairing, image_size=image_size, batch_size=batch_size, seed=seed, draw=draw
        )
        if pairing.maps and draw == 0:
            predicted, results = _with_maps(model, pairing, images, indices, counted)
        else:
            predicted = model.predict(images, verbose=0)
        for task in probabilities:
            rows = rows_of_task(pairing, task, indices, counted)
            probabilities[task].append(predicted[task][rows])
    for task, per_draw in probabilities.items():
        source = pairing.sources[pairing.source_of_task(task)]
        known = source.targets[task] >= 0
        results[task] = TaskPredictions(
            ids=source.ids[known],
            groups=source.groups[known],
            y_true=source.targets[task][known],
            probabilities=np.stack(per_draw)[:, known],
        )
    return results


def _with_maps(model, pairing, images, indices, counted):
    """Predictions of all tasks; of maps only what their scores need is kept."""
    outputs, parts, start = [], {task: [] for task in pairing.maps}, 0
    for batch in images.as_numpy_iterator():
        predicted = model.predict(batch, verbose=0)
        stop = start + len(next(iter(batch.values())))
        for task in pairing.maps:
            column = pairing.source_of_task(task)
            source, rows = pairing.sources[column], np.arange(start, stop)
            rows = rows[counted[start:stop, column]]
            cases = indices[rows, column]
            answers = predicted.pop(task)[rows - start]
            # Sources too large for memory keep their own size.
            labels = resize_nearest(source.targets[task][cases], answers.shape[1:3])
            parts[task].append(
                map_predictions(
                    source.ids[cases],
                    source.groups[cases],
                    labels,
                    answers,
                    pairing.regions[task],
                )
            )
        outputs.append(predicted)
        start = stop
    predicted = {
        task: np.concatenate([output[task] for output in outputs])
        for task in outputs[0]
    }
    return predicted, {task: joined(maps) for task, maps in parts.items()}


def network_of(run: Run):
    """The network of a run; of an ensemble, the first member."""
    model = run.load_model()
    return model.members[0] if isinstance(model, uncertainty.Ensemble) else model


def shown_once(run: Run, data_root: str | Path | None = None, progress: bool = False):
    """The test split of a run, and what `once` makes of it with the run's seed."""
    config = run.at(data_root)
    pairing = read_sources(config)
    test = read_splits(run, pairing).take(pairing, "test")
    test = load_images(test, config, progress=progress)
    return test, once(
        test,
        image_size=config.data.size,
        batch_size=config.evaluation.batch_size,
        seed=config.seed,
    )


def labelled_cases(
    run: Run,
    count: int = 200,
    data_root: str | Path | None = None,
    progress: bool = False,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Test cases of a run, those first that have labels for all tasks.

    Args:
        run: The run.
        count: Number of cases.
        data_root: Folder that holds the data sets, where it is no longer the one of
            the training.
        progress: Whether to show that images are read.

    Returns:
        Tuple of the images by modality, float32, and the labels by task, of cases or
        of pixels, -1 where a case is only a partner.
    """
    test, (batches, indices, counted) = shown_once(run, data_root, progress)
    labels = {}
    for task in test.tasks:
        column = test.source_of_task(task)
        labels[task] = test.sources[column].targets[task][indices[:, column]]
        labels[task][~counted[:, column]] = -1
    known = sum(
        (values >= 0).any(axis=tuple(range(1, values.ndim))).astype(int)
        for values in labels.values()
    )
    some = np.random.default_rng(run.config.seed).permutation(len(indices))
    rows = some[np.argsort(-known[some], kind="stable")][:count]
    images = {
        name: array[rows].astype("float32") for name, array in stacked(batches).items()
    }
    return images, {task: values[rows] for task, values in labels.items()}


def stacked(batches) -> dict[str, np.ndarray]:
    """The images of all batches of `once`, by modality."""
    read = list(batches.as_numpy_iterator())
    return {name: np.concatenate([batch[name] for batch in read]) for name in read[0]}


def rows_of_task(pairing: Pairing, task: str, indices, counted) -> np.ndarray:
    """The rows of `once` that count for a task, in the order of its source."""
    column = pairing.source_of_task(task)
    rows = np.flatnonzero(counted[:, column])
    return rows[np.argsort(indices[rows, column])]


def summarize(
    predictions: TaskPredictions,
    class_names: tuple[str, ...],
    bootstrap: int = 500,
    seed: int = 0,
) -> dict:
    """Summarizes the predictions of one task.

    Returns:
        A JSON-able dict: `metrics` (name to `value`, the mean over the draws of
        partners, `spread`, their standard deviation, and `interval`, 95 % by
        bootstrap), `confusion` (rows true, columns predicted, first draw), the number
        of `images` and `groups`, and `notes` on what could not be measured.
    """
    y_true, probabilities = predictions.y_true, predictions.probabilities
    if not len(y_true):
        return {"images": 0, "notes": ["No image of the test split has a label."]}
    per_draw = [classification_metrics(y_true, p) for p in probabilities]
    intervals = {}
    if bootstrap:
        intervals = bootstrap_intervals(
            y_true, probabilities, predictions.groups, bootstrap, seed
        )
    metrics = {}
    for name in per_draw[0]:
        values = [scores[name] for scores in per_draw]
        if values[0] is None:
            metrics[name] = None
            continue
        metrics[name] = {
            "value": float(np.mean(values)),
            "spread": float(np.std(values)),
            "interval": intervals.get(name),
        }
    confusion = np.zeros((len(class_names),) * 2, int)
    np.add.at(confusion, (y_true, probabilities[0].argmax(axis=1)), 1)
    return {
        "images": len(y_true),
        "groups": len(np.unique(predictions.groups)),
        "draws": len(probabilities),
        "classes": list(class_names),
        "metrics": metrics,
        "confusion": confusion.tolist(),
        "notes": _notes(y_true, class_names),
    }


def evaluate(
    run: Run,
    baselines: bool = False,
    missing: bool = False,
    data_root: str | Path | None = None,
    verbose: int = 1,
) -> dict:
    """Scores the best model of a run on its test split.

    Writes `predictions.npz` and `metrics.json` into the run folder.

    Args:
        run: The run.
        baselines: Whether to score the majority class and the nearest neighbour in
            raw pixels too.
        missing: Whether to score the network again without each modality in turn.
        data_root: Folder that holds the data sets, where it is no longer the one of
            the training.
        verbose: 0 is silent.

    Returns:
        What `metrics.json` holds: for each of the `tasks` what `summarize` returns, and
        where they were asked for, the same for each of the `baselines`, and for each
        modality `missing`, of the tasks whose source has another.
    """
    config = run.at(data_root)
    pairing = read_sources(config)
    splits = read_splits(run, pairing)
    test = splits.take(pairing, "test")
    loaded = load_images(test, config, progress=verbose != 0)
    settings = config.evaluation
    model = run.load_model()

    def predicted(pairing, draws):
        return predict_test(
            model,
            pairing,
            config.data.size,
            draws=draws,
            seed=config.seed,
            batch_size=settings.batch_size,
        )

    predictions = predicted(loaded, settings.partner_draws)
    arrays = {}
    for task, result in predictions.items():
        arrays[f"{task}.id"] = result.ids
        arrays[f"{task}.y_true"] = result.y_true
        if isinstance(result, MapPredictions):
            arrays[f"{task}.group"] = result.groups
            arrays[f"{task}.y_pred"] = result.y_pred
        else:
            arrays[f"{task}.probabilities"] = result.probabilities
    np.savez_compressed(run.folder / "predictions.npz", **arrays)

    def scored(task, result):
        maps = isinstance(result, MapPredictions)
        summary = summarize_maps if maps else summarize
        return summary(result, run.class_names[task], settings.bootstrap, config.seed)

    report = {
        "split": "test",
        "seed": config.seed,
        "tasks": {task: scored(task, result) for task, result in predictions.items()},
    }
    if run.leakage:
        report["leakage"] = list(run.leakage)
    if baselines:
        train = splits.take(pairing, "train")
        report["baselines"] = {
            name: {
                task: scored(task, _answered(loaded, predictions[task], task, one_hot))
                for task, one_hot in tasks.items()
            }
            for name, tasks in baseline_predictions(
                train, test, config.data.size
            ).items()
        }
    if missing:
        report["missing"] = {
            modality: {
                task: scored(task, result)
                for task, result in predicted(_without(loaded, modality), 1).items()
                if _can_answer(loaded, task, modality)
            }
            for modality in loaded.modalities
            if any(_can_answer(loaded, task, modality) for task in predictions)
        }
    run.write_json("metrics.json", report)
    return report


def _can_answer(pairing, task, modality):
    """Whether a task has images of its own without a modality."""
    source = pairing.sources[pairing.source_of_task(task)]
    return set(source.modalities) != {modality}


def _without(pairing, modality):
    """The pairing with every image of a modality absent."""
    column = pairing.source_of_modality(modality)
    source = pairing.sources[column]
    images = source.modalities[modality]
    absent = np.full_like(images, None if images.dtype == object else 0)
    sources = list(pairing.sources)
    sources[column] = replace(
        source, modalities={**source.modalities, modality: absent}
    )
    return replace(pairing, sources=tuple(sources))


def _answered(pairing, predictions, task, answers):
    """The predictions of a task, with other answers."""
    source = pairing.sources[pairing.source_of_task(task)]
    labels = source.targets[task]
    if isinstance(predictions, MapPredictions):
        eye = np.eye(pairing.tasks[task], dtype="float32")
        lots = np.array_split(np.arange(len(source)), -(-len(source) // 64))
        return joined(
            [
                map_predictions(
                    source.ids[lot],
                    source.groups[lot],
                    labels[lot],
                    eye[answers[lot]],
                    predictions.regions,
                )
                for lot in lots
            ]
        )
    return replace(predictions, probabilities=answers[labels >= 0][None])


def _notes(y_true, class_names):
    present = np.unique(y_true)
    if len(present) == 1:
        return [
            f"Only the class {class_names[present[0]]!r} occurs in the test split: AUC "
            "and specificity are undefined, the others speak of that class alone."
        ]
    absent = [name for k, name in enumerate(class_names) if k not in present]
    if absent:
        return [
            f"No test image has the class(es) {', '.join(absent)}: means over classes "
            "leave them out."
        ]
    return []
