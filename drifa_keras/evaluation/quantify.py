"""Scoring the uncertainty of a run on its test split."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from drifa_keras import uncertainty
from drifa_keras.data import Pairing, once
from drifa_keras.evaluation.evaluate import rows_of_task
from drifa_keras.evaluation.map_uncertainty import (
    predict_map_passes,
    summarize_map_uncertainty,
)
from drifa_keras.evaluation.uncertainty import (
    MEASURES,
    PassPredictions,
    summarize_uncertainty,
)
from drifa_keras.runs import Run, load_images, read_sources, read_splits


def evaluate_uncertainty(
    run: Run,
    passes: int = 20,
    alpha: float = 0.1,
    target_risk: float = 0.05,
    data_root: str | Path | None = None,
    verbose: int | str = "auto",
) -> dict:
    """Scores Monte-Carlo dropout, or an ensemble of it, on the test split of a run.

    Writes `uncertainty.json`, and `uncertainty.npz` with what figures are drawn from:
    for each task `<task>.id`, `<task>.y_true`, `<task>.plain` and `<task>.mean`
    (probabilities without and with dropout, `(images, classes)`), every measure by its
    name `(images,)`, and the images of `most_certain` and `least_certain`, as
    `<task>.<which>.<modality>`. Of a task that classifies every pixel, for each of the
    two only the images, and `<task>.<which>` with `.y_true`, `.y_pred` and `.entropy`,
    maps of these slices.

    Args:
        run: The run.
        passes: Passes of every network.
        alpha: Share of the conformal sets that may miss the true class.
        target_risk: Share of wrong answers allowed in selective prediction.
        data_root: Folder that holds the data sets, where it is no longer the one of
            the training.
        verbose: 0 is silent, 1 shows progress bars, `"auto"` shows them where it takes
            long.

    Returns:
        What `uncertainty.json` holds: `split`, `seed`, and for each of the `tasks` what
        `summarize_uncertainty` or `summarize_map_uncertainty` returns.

    Raises:
        ValueError: If the network has no active dropout, or the data is not as its
            reader expects.
    """
    config = run.at(data_root)
    pairing = read_sources(config)
    splits = read_splits(run, pairing)
    model = run.load_model()
    parts = {}
    for name in ("test", "val"):
        part = splits.take(pairing, name)
        parts[name] = load_images(part, config, progress=verbose != 0)
    report = {"split": "test", "seed": config.seed, "tasks": {}}
    arrays = {}
    settings = {"seed": config.seed, "batch_size": config.evaluation.batch_size}
    if pairing.maps:
        test, size = parts["test"], config.data.size
        drawn = predict_map_passes(model, test, size, passes, **settings)
        for task, found in drawn.items():
            summary = summarize_map_uncertainty(
                found,
                run.class_names[task],
                passes,
                config.evaluation.bootstrap,
                config.seed,
            )
            report["tasks"][task] = summary
            arrays |= _map_arrays(model, task, summary, test, size, passes, settings)
    labelled = [task for task in pairing.tasks if task not in pairing.maps]
    predictions = {
        name: predict_passes(
            model,
            part,
            config.data.size,
            passes,
            verbose=verbose,
            **settings,
        )
        for name, part in parts.items()
        if labelled
    }
    for task, test in predictions.get("test", {}).items():
        summary = summarize_uncertainty(
            test,
            predictions["val"][task],
            run.class_names[task],
            alpha=alpha,
            target_risk=target_risk,
            seed=config.seed,
        )
        report["tasks"][task] = summary
        arrays |= _arrays(task, test, summary, parts["test"], config.data.size)
    if run.leakage:
        report["leakage"] = list(run.leakage)
    np.savez_compressed(run.folder / "uncertainty.npz", **arrays)
    run.write_json("uncertainty.json", report)
    return report


def predict_passes(
    model,
    pairing: Pairing,
    image_size: tuple[int, int],
    passes: int = 20,
    seed: int = 0,
    batch_size: int = 64,
    verbose: int | str = "auto",
) -> dict[str, PassPredictions]:
    """Predicts every image of every source once, without dropout and with it.

    Args:
        model: A `MultimodalModel`, or an `Ensemble` of some.
        pairing: The test part.
        image_size: (height, width) of the model's images.
        passes: Passes of every network.
        seed: Seed of the partners and of the masks.
        batch_size: Pairs at a time.
        verbose: As for `drifa_keras.uncertainty.predict`.

    Returns:
        Dict of task to `PassPredictions`; images whose label is unknown are left out,
        and so are tasks that classify every pixel.
    """
    images, indices, counted = once(
        pairing, image_size=image_size, batch_size=batch_size, seed=seed
    )
    drawn = uncertainty.predict(
        model,
        images,
        passes,
        seed=seed,
        batch_size=batch_size,
        return_passes=True,
        verbose=verbose,
    )
    if isinstance(model, uncertainty.Ensemble):
        plain = model.predict_members(images)
    else:
        predicted = model.predict(images, verbose=0)
        plain = {task: values[None] for task, values in predicted.items()}
    results = {}
    for task in [name for name in pairing.tasks if name not in pairing.maps]:
        source = pairing.sources[pairing.source_of_task(task)]
        rows = rows_of_task(pairing, task, indices, counted)
        known = source.targets[task] >= 0
        results[task] = PassPredictions(
            ids=source.ids[known],
            groups=source.groups[known],
            y_true=source.targets[task][known],
            plain=plain[task][:, rows][:, known],
            passes=drawn[task].passes[:, rows][:, known],
        )
    return results


def _arrays(task, test, summary, pairing, size):
    """What `uncertainty.npz` holds of a task."""
    arrays = {
        "id": test.ids,
        "y_true": test.y_true,
        "plain": test.plain.mean(axis=0),
        "mean": test.passes.mean(axis=0),
        **{name: getattr(uncertainty, name)(test.passes) for name in MEASURES},
    }
    source = pairing.sources[pairing.source_of_task(task)]
    row = {name: number for number, name in enumerate(source.ids.tolist())}
    for which in ("most_certain", "least_certain"):
        shown = source.take([row[name] for name in summary.get(which, [])])
        channels = {name: pairing.modalities[name] for name in source.modalities}
        loaded = shown.load(size, channels, progress=False)
        for name, images in loaded.modalities.items():
            arrays[f"{which}.{name}"] = images
    return {f"{task}.{name}": array for name, array in arrays.items()}


def _map_arrays(model, task, summary, pairing, size, passes, settings):
    """What `uncertainty.npz` holds of a task that classifies every pixel."""
    source = pairing.sources[pairing.source_of_task(task)]
    row = {name: number for number, name in enumerate(source.ids.tolist())}
    arrays = {}
    for which in ("most_certain", "least_certain"):
        names = summary.get(which, [])
        if not names:
            continue
        channels = {name: pairing.modalities[name] for name in source.modalities}
        shown = source.take([row[name] for name in names])
        loaded = shown.load(size, channels, progress=False)
        drawn = uncertainty.predict(
            model, _complete(loaded.modalities, pairing, size), passes, **settings
        )[task]
        arrays |= {f"{which}.{name}": a for name, a in loaded.modalities.items()}
        arrays[f"{which}.y_true"] = loaded.targets[task]
        arrays[f"{which}.y_pred"] = drawn.mean.argmax(axis=-1).astype("int8")
        arrays[f"{which}.entropy"] = drawn.predictive_entropy
    return {f"{task}.{name}": array for name, array in arrays.items()}


def _complete(images, pairing, size):
    """The images of one source, with those of all others absent."""
    count = len(next(iter(images.values())))
    return {
        name: images.get(name, np.zeros((count, *shape), "uint8"))
        for name, shape in pairing.shapes(size).items()
    }
