"""Fig. 4 and Fig. 5: the same test images seen by every network of an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from drifa_keras import explain
from drifa_keras.configs import Experiment
from drifa_keras.data import once
from drifa_keras.evaluation.evaluate import network_of, rows_of_task, stacked
from drifa_keras.experiments.results import Outcome
from drifa_keras.report import figures, to_png
from drifa_keras.runs import Run, load_images, read_sources, read_splits


def draw_figures(
    experiment: Experiment,
    outcomes: Sequence[Outcome],
    out: str | Path,
    images: int = 4,
    points: int = 500,
) -> list[Path]:
    """Draws Grad-CAM and t-SNE of the same test images for every network.

    Of each network the run with the lowest seed that is done is shown. The images are
    drawn at random, one of each class in turn, before any network sees them. A network
    without feature maps is left out of the former, and one whose task does not end in a
    `Dense` layer of the latter. Where a task labels pixels, the images are drawn among
    those with the most classes, each of another group, and the label maps of every
    network take the place of t-SNE; Grad-CAM is that of the last class that an image
    shows.

    Args:
        experiment: The experiment.
        outcomes: Of its cells.
        out: The folder; the figures go into `<out>/figures`.
        images: Number of images for Grad-CAM.
        points: Number of images for t-SNE, at most.

    Returns:
        The paths of `<experiment>_grad_cam_<task>_<modality>.png`, and of
        `<experiment>_tsne_<task>.png` or `<experiment>_maps_<task>.png`.
    """
    folder = Path(out) / "figures"
    paths = []
    for dataset in experiment.datasets:
        runs = {}
        for outcome in outcomes:
            if outcome.state == "done" and outcome.cell.dataset == dataset:
                runs.setdefault(outcome.cell.model, Run.open(outcome.cell.folder))
        runs = {model: runs[model] for model in experiment.models if model in runs}
        for name, figure in _figures(runs, images, points) if runs else ():
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{experiment.name}_{name}.png"
            path.write_bytes(to_png(figure))
            paths.append(path)
    return paths


def _figures(runs, count, points):
    """Pairs (name, figure) of one data set."""
    run = next(iter(runs.values()))
    config = run.config
    pairing = read_sources(config)
    test = read_splits(run, pairing).take(pairing, "test")
    test = load_images(test, config, progress=False)
    batches, indices, counted = once(
        test, image_size=config.data.size, batch_size=config.evaluation.batch_size
    )
    images = stacked(batches)
    models = {name: network_of(run) for name, run in runs.items()}
    for task in test.tasks:
        source = test.sources[test.source_of_task(task)]
        rows = rows_of_task(test, task, indices, counted)
        shown = {name: array[rows] for name, array in images.items()}
        if source.targets[task].ndim > 1:
            yield from _of_pixels(models, task, source, shown, count)
        else:
            yield from _of_classes(models, task, source, shown, count, points)


def _of_classes(models, task, source, images, count, points):
    """Figures of a task that classifies images, the rows of `images` and `source`."""
    labels, classes = source.targets[task], source.class_names[task]
    order = np.random.default_rng(0).permutation(np.flatnonzero(labels >= 0))
    chosen = _each_class_in_turn(labels, order)[:count]
    shown = {name: array[chosen] for name, array in images.items()}
    names = [classes[label] for label in labels[chosen]]
    answers = {
        name: [_answer(p, classes) for p in model.predict(shown, verbose=0)[task]]
        for name, model in models.items()
    }
    for modality, maps in _maps(models, task, shown, source.modalities).items():
        yield (
            f"grad_cam_{task}_{modality}",
            figures.grad_cam_comparison(
                shown[modality], maps, names, answers, title=f"{task}, {modality}"
            ),
        )
    some = order[:points]
    of_some = {name: array[some] for name, array in images.items()}
    planes = _planes(models, task, of_some) if len(some) > 3 else {}
    if planes:
        yield (
            f"tsne_{task}",
            figures.tsne_comparison(planes, labels[some], classes, title=task),
        )


def _of_pixels(models, task, source, images, count):
    """Figures of a task that classifies pixels, the rows of `images` and `source`."""
    labels, classes = source.targets[task], source.class_names[task]
    there = np.array([(labels == k).any(axis=(1, 2)) for k in range(len(classes))])
    order = np.random.default_rng(0).permutation(len(labels))
    order = order[np.argsort(-there[:, order].sum(axis=0), kind="stable")]
    _, first = np.unique(source.groups[order], return_index=True)
    chosen = order[np.sort(first)][:count]
    shown = {name: array[chosen] for name, array in images.items()}
    ids = [str(source.ids[case]) for case in chosen]
    last = np.array([np.flatnonzero(of_case).max(initial=0) for of_case in there.T])
    captions = [
        f"{classes[k]} in {name}" for name, k in zip(ids, last[chosen], strict=True)
    ]
    found = _maps(models, task, shown, source.modalities, last[chosen])
    for modality, maps in found.items():
        yield (
            f"grad_cam_{task}_{modality}",
            figures.grad_cam_comparison(
                shown[modality], maps, captions, title=f"{task}, {modality}"
            ),
        )
    yield (
        f"maps_{task}",
        figures.label_map_panels(
            {name: shown[name] for name in source.modalities},
            labels[chosen],
            {
                name: model.predict(shown, verbose=0)[task].argmax(axis=-1)
                for name, model in models.items()
            },
            classes,
            ids,
            title=task,
        ),
    )


def _each_class_in_turn(labels, order):
    """`order`, so that the first of every class stand first, then the second."""
    seen = {}
    turn = np.zeros(len(order), int)
    for place, row in enumerate(order):
        turn[place] = seen[labels[row]] = seen.get(labels[row], -1) + 1
    return order[np.lexsort((labels[order], turn))]


def _maps(models, task, shown, modalities, class_index=None):
    """Modality to network to its maps."""
    found = {}
    for name, model in models.items():
        try:
            maps = explain.grad_cam(model, shown, task, class_index)
        except ValueError:  # no feature map anywhere
            continue
        for modality in modalities:
            if modality in maps:
                found.setdefault(modality, {})[name] = maps[modality]
    return found


def _planes(models, task, images):
    """Network to its plane."""
    found = {}
    for name, model in models.items():
        try:
            features = explain.embedding(model, images)[task]
        except ValueError:  # no one layer decides
            continue
        found[name] = explain.tsne(features)
    return found


def _answer(probabilities, classes):
    return f"{classes[probabilities.argmax()]} {probabilities.max():.2f}"
