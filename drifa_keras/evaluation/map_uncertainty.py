"""What Monte-Carlo dropout adds where every pixel is classified."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drifa_keras import uncertainty
from drifa_keras.data import Pairing, once
from drifa_keras.data.images import resize_nearest
from drifa_keras.evaluation.segmentation import (
    MapPredictions,
    area_under_roc,
    foreground_dice,
    joined,
    map_predictions,
    summarize_maps,
)

_SHOWN = 4
_BINS = 10_000


@dataclass(frozen=True, eq=False)
class MapPasses:
    """Predictions of one task that classifies every pixel, without and with dropout.

    Attributes:
        plain: Predictions without dropout.
        mean: Those of the mean over the passes.
        scores: For each of the two a dict of `count` (pixels), `nll` and `brier` (sums
            over them) and `reliability`, a `ReliabilityDiagram`.
        entropy: `(slices,)` mean predictive entropy of the known pixels, in nats.
        counts: `(2, bins)`: how many pixels, right and wrong, have which entropy.
    """

    plain: MapPredictions
    mean: MapPredictions
    scores: tuple[dict, dict]
    entropy: np.ndarray
    counts: np.ndarray


def predict_map_passes(
    model,
    pairing: Pairing,
    image_size: tuple[int, int],
    passes: int = 20,
    seed: int = 0,
    batch_size: int = 64,
) -> dict[str, MapPasses]:
    """Predicts every slice once without dropout and with it, batch by batch.

    Args:
        model: A `MultimodalModel`, or an `Ensemble` of some.
        pairing: The test part.
        image_size: (height, width) of the model's images.
        passes: Passes of every network.
        seed: Seed of the partners and of the masks.
        batch_size: Slices at a time.

    Returns:
        Dict of the tasks that classify every pixel to `MapPasses`.
    """
    images, indices, counted = once(
        pairing, image_size=image_size, batch_size=batch_size, seed=seed
    )
    lots, start = {task: [] for task in pairing.maps}, 0
    for number, batch in enumerate(images.as_numpy_iterator()):
        stop = start + len(next(iter(batch.values())))
        plain = model.predict(batch, verbose=0)
        drawn = uncertainty.predict(
            model, batch, passes, seed=seed + number, batch_size=batch_size, verbose=0
        )
        for task in pairing.maps:
            column = pairing.source_of_task(task)
            rows = np.flatnonzero(counted[start:stop, column])
            if not len(rows):
                continue
            source = pairing.sources[column]
            cases = indices[start:stop, column][rows]
            labels = source.targets[task][cases]
            about = (
                source.ids[cases],
                source.groups[cases],
                resize_nearest(labels, plain[task].shape[1:3]),
            )
            answers = plain[task][rows], drawn[task].mean[rows]
            entropy = drawn[task].predictive_entropy[rows]
            lots[task].append(_lot(about, answers, entropy, pairing.regions[task]))
        start = stop
    return {task: _together(parts) for task, parts in lots.items()}


def summarize_map_uncertainty(
    test: MapPasses,
    class_names: tuple[str, ...],
    passes: int,
    bootstrap: int = 500,
    seed: int = 0,
) -> dict:
    """Summarizes the uncertainty of one task that classifies every pixel.

    Args:
        test: The predictions.
        class_names: Names of the classes.
        passes: How many passes there were.
        bootstrap: Resamples of cases behind the intervals.
        seed: Seed of the resamples.

    Returns:
        A JSON-able dict: `images` (slices), `groups`, `passes`, `classes`, `regions`;
        `table`, two rows, without and with dropout (`uq`), each with `metrics` as
        `summarize_maps` returns them and, of single pixels, `ece`, `nll`, `brier` and
        the bins of the `reliability` diagram; `auroc`, how well the entropy of a pixel
        finds the wrong ones; `slices`, the rank correlation (Spearman) of the mean
        entropy of a slice with its Dice of all that is not background; and
        `most_certain` and `least_certain`, ids of slices that have some.
    """
    found = [
        summarize_maps(predictions, class_names, bootstrap, seed)
        for predictions in (test.plain, test.mean)
    ]
    if not found[0]["images"]:
        return found[0]
    rows = []
    for uq, summary, scores in zip((False, True), found, test.scores, strict=True):
        diagram = scores["reliability"]
        total = scores["count"]
        rows.append(
            {
                "uq": uq,
                "metrics": summary["metrics"],
                "ece": float(np.sum(diagram.count * diagram.gap) / total),
                "nll": scores["nll"] / total,
                "brier": scores["brier"] / total,
                "reliability": {
                    key: [None if np.isnan(v) else float(v) for v in column]
                    for key, column in diagram._asdict().items()
                },
            }
        )
    dice, sizes = foreground_dice(test.mean.y_true, test.mean.y_pred)
    some = np.flatnonzero(sizes.any(axis=0))
    order = some[np.argsort(test.entropy[some], kind="stable")]
    auroc = area_under_roc(test.counts)
    return {
        **{key: found[1][key] for key in ("images", "groups", "classes", "regions")},
        "passes": passes,
        "table": rows,
        "auroc": float(auroc) if np.isfinite(auroc) else None,
        "slices": _rank_correlation(test.entropy[some], dice[some]),
        "most_certain": test.mean.ids[order[:_SHOWN]].tolist(),
        "least_certain": test.mean.ids[order[::-1][:_SHOWN]].tolist(),
        "notes": found[1]["notes"],
    }


def _lot(about, answers, entropy, regions) -> MapPasses:
    labels = about[2]
    known = labels >= 0
    classes = answers[0].shape[-1]
    # Finer towards the largest entropy: near even probabilities it is quadratic.
    edges = np.log(classes) * (1 - np.linspace(1, 0, _BINS + 1) ** 2)[1:-1]
    right = answers[1].argmax(axis=-1) == labels
    counts = [
        np.bincount(np.digitize(entropy[part], edges), minlength=_BINS)
        for part in (known & right, known & ~right)
    ]
    mean = np.where(known, entropy, 0).sum(axis=(1, 2))
    return MapPasses(
        *(map_predictions(*about, answer, regions) for answer in answers),
        tuple(_scores(labels[known], answer[known]) for answer in answers),
        mean / np.maximum(known.sum(axis=(1, 2)), 1),
        np.array(counts),
    )


def _scores(labels, probabilities) -> dict:
    """Sums over pixels, and their reliability diagram."""
    count = len(labels)
    if not count:
        labels, probabilities = [0], np.eye(2)[:1]
    diagram = uncertainty.reliability_diagram(labels, probabilities)
    if not count:
        diagram = diagram._replace(count=0 * diagram.count)
    return {
        "count": count,
        "nll": count * uncertainty.negative_log_likelihood(labels, probabilities),
        "brier": count * uncertainty.brier_score(labels, probabilities),
        "reliability": diagram,
    }


def _together(parts: list[MapPasses]) -> MapPasses:
    scores = []
    for of_kind in zip(*(part.scores for part in parts), strict=True):
        diagrams = [one["reliability"] for one in of_kind]
        count = sum(diagram.count for diagram in diagrams)
        size = np.where(count > 0, count, np.nan)
        confidence, accuracy = (
            sum(d.count * np.nan_to_num(getattr(d, name)) for d in diagrams) / size
            for name in ("confidence", "accuracy")
        )
        whole = uncertainty.ReliabilityDiagram(
            diagrams[0].edges, count, confidence, accuracy
        )
        sums = {k: sum(one[k] for one in of_kind) for k in ("count", "nll", "brier")}
        scores.append({**sums, "reliability": whole})
    return MapPasses(
        joined([part.plain for part in parts]),
        joined([part.mean for part in parts]),
        tuple(scores),
        np.concatenate([part.entropy for part in parts]),
        sum(part.counts for part in parts),
    )


def _rank_correlation(a, b):
    from scipy.stats import spearmanr

    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(spearmanr(a, b).statistic)
