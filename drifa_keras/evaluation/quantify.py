"""Scoring the uncertainty of a run on its test split."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from drifa_keras import uncertainty
from drifa_keras.data import Pairing, once
from drifa_keras.evaluation.evaluate import rows_of_task
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
    `<task>.<which>.<modality>`.

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
        `summarize_uncertainty` returns.

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
    predictions = {
        name: predict_passes(
            model,
            part,
            config.data.size,
            passes,
            seed=config.seed,
            batch_size=config.evaluation.batch_size,
            verbose=verbose,
        )
        for name, part in parts.items()
    }
    report = {"split": "test", "seed": config.seed, "tasks": {}}
    arrays = {}
    for task, test in predictions["test"].items():
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
        Dict of task to `PassPredictions`; images whose label is unknown are left out.
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
    for task in pairing.tasks:
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
