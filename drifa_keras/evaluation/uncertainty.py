"""What the uncertainty of a network is worth: Table 7 and what goes with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drifa_keras import uncertainty
from drifa_keras.evaluation.metrics import classification_metrics
from drifa_keras.uncertainty.conformal import METHODS

MEASURES = (
    "predictive_entropy",
    "expected_entropy",
    "mutual_information",
    "variance",
    "variation_ratio",
)
# The columns of Table 7.
_TABLE = ("accuracy", "precision", "recall", "f1")
_SHOWN = 8


@dataclass(frozen=True, eq=False)
class PassPredictions:
    """Predictions of one task, with and without uncertainty quantification.

    Attributes:
        ids: `(images,)` ids of the images.
        groups: `(images,)` which images belong together.
        y_true: `(images,)` integer labels.
        plain: `(members, images, classes)` probabilities of each network of an
            ensemble, without dropout; one network is an ensemble of one.
        passes: `(passes, images, classes)` probabilities of every pass of every
            member.
    """

    ids: np.ndarray
    groups: np.ndarray
    y_true: np.ndarray
    plain: np.ndarray
    passes: np.ndarray


def summarize_uncertainty(
    test: PassPredictions,
    val: PassPredictions,
    class_names: tuple[str, ...],
    alpha: float = 0.1,
    target_risk: float = 0.05,
    divisions: int = 20,
    seed: int = 0,
) -> dict:
    """Summarizes the uncertainty of one task.

    Args:
        test: Predictions for the images that are reported on.
        val: Those for the validation images, on which temperatures are fitted. There
            may be none.
        class_names: Names of the classes.
        alpha: Share of the conformal sets that may miss the true class.
        target_risk: Share of wrong answers allowed in selective prediction.
        divisions: How often the test groups are divided at random into halves, one to
            calibrate the conformal sets on and one to count their coverage on.
        seed: Seed of the divisions and of the conformal sets.

    Returns:
        A JSON-able dict:

        - `images`, `groups`, `members`, `passes`: how many there are; `classes`.
        - `table`: four rows, without and with uncertainty quantification (`uq`, the
          mean over all passes), each before and after temperature scaling, with
          accuracy, precision, recall and F1 (macro), `ece`, `adaptive_ece`, `mce`,
          `brier`, `nll`, `aurc`, `e_aurc` and the bins of the `reliability` diagram.
          Rows without quantification are means over the members (their diagrams hold
          the images of all). There is no scaling without validation images.
        - `measures`: of each measure of uncertainty the mean over all, right and wrong
          predictions, how well it finds the wrong ones (`auroc`), and the `aurc` of
          answering by it.
        - `selective`: the `coverage` at the target risk and the `confidence` that it
          takes.
        - `conformal`: of each method the mean and the spread over the divisions of the
          `coverage`, the mean `set_size`, the share of `empty` sets and the
          `class_coverage`.
        - `most_certain`, `least_certain`: ids of the images of smallest and of largest
          predictive entropy.
        - `notes` on what could not be measured.

        `measures` are those of the passes as they come; `selective` and `conformal`
        are of the last row of the table.
    """
    if not len(test.y_true):
        return {"images": 0, "notes": ["No image of the test split has a label."]}
    table, calibrated = _table(test, val)
    conformal, notes = _conformal(test, calibrated, alpha, divisions, seed)
    coverage, confidence = uncertainty.coverage_at_risk(
        test.y_true, calibrated, target_risk
    )
    order = np.argsort(uncertainty.predictive_entropy(test.passes), kind="stable")
    return {
        "images": len(test.y_true),
        "groups": len(np.unique(test.groups)),
        "members": len(test.plain),
        "passes": len(test.passes),
        "classes": list(class_names),
        "table": table,
        "measures": _measures(test),
        "selective": {
            "target_risk": target_risk,
            "coverage": coverage,
            "confidence": confidence,
        },
        "conformal": conformal,
        "most_certain": test.ids[order[:_SHOWN]].tolist(),
        "least_certain": test.ids[order[::-1][:_SHOWN]].tolist(),
        "notes": notes,
    }


def _table(test, val):
    """The rows of the table, and the probabilities that the last is of."""
    rows = []
    for uq, probabilities, on_val in (
        (False, test.plain, val.plain),
        (True, _mean(test.passes), _mean(val.passes)),
    ):
        rows.append(_row(uq, test.y_true, probabilities, np.ones(len(probabilities))))
        if len(val.y_true):
            temperatures = [
                uncertainty.optimal_temperature(_logits(p), val.y_true) for p in on_val
            ]
            probabilities = [
                uncertainty.apply_temperature(p, temperature)
                for p, temperature in zip(probabilities, temperatures, strict=True)
            ]
            rows.append(_row(uq, test.y_true, probabilities, temperatures))
    return rows, probabilities[0]


def _mean(passes):
    return passes.mean(axis=0, dtype="float64")[None]


def _logits(probabilities):
    return np.log(np.maximum(probabilities, np.finfo("float32").tiny))


def _row(uq, y_true, probabilities, temperatures):
    """Means of the scores of several predictions for the same images."""
    scores = [_scores(y_true, p) for p in probabilities]
    diagram = uncertainty.reliability_diagram(
        np.tile(y_true, len(probabilities)), np.concatenate(probabilities)
    )
    return {
        "uq": uq,
        "temperature": float(np.mean(temperatures)),
        **{name: float(np.mean([s[name] for s in scores])) for name in scores[0]},
        "reliability": {key: _list(array) for key, array in diagram._asdict().items()},
    }


def _scores(y_true, probabilities):
    metrics = classification_metrics(y_true, probabilities)
    data = (y_true, probabilities)
    return {
        **{name: metrics[name] for name in _TABLE},
        "ece": uncertainty.expected_calibration_error(*data),
        "adaptive_ece": uncertainty.adaptive_calibration_error(*data),
        "mce": uncertainty.maximum_calibration_error(*data),
        "brier": uncertainty.brier_score(*data),
        "nll": uncertainty.negative_log_likelihood(*data),
        "aurc": uncertainty.aurc(*data),
        "e_aurc": uncertainty.e_aurc(*data),
    }


def _measures(test):
    mean = test.passes.mean(axis=0, dtype="float64")
    right = mean.argmax(axis=1) == test.y_true
    result = {}
    for name in MEASURES:
        values = getattr(uncertainty, name)(test.passes)
        result[name] = {
            "mean": float(values.mean()),
            "right": float(values[right].mean()) if right.any() else None,
            "wrong": float(values[~right].mean()) if not right.all() else None,
            "auroc": uncertainty.ood_metrics(values[right], values[~right])["auroc"]
            if 0 < right.sum() < len(right)
            else None,
            "aurc": uncertainty.aurc(test.y_true, mean, -values),
        }
    return result


def _conformal(test, probabilities, alpha, divisions, seed):
    """The conformal part of the summary, and notes where there is none."""
    y_true, groups = test.y_true, test.groups
    result = {}
    try:
        for method in METHODS:
            found = []
            for division in range(divisions):
                calibration = uncertainty.split_groups(groups, seed=seed + division)
                rest = ~calibration
                sets = (
                    uncertainty.SplitConformal(method, alpha, seed=seed + division)
                    .fit(
                        probabilities[calibration],
                        y_true[calibration],
                        groups[calibration],
                    )
                    .predict(probabilities[rest], groups[rest])
                )
                found.append((sets, y_true[rest]))
            result[method] = _summarize_sets(found)
    except ValueError as error:
        return None, [f"No conformal sets: {error}"]
    return {"alpha": alpha, "divisions": divisions, "methods": result}, []


def _summarize_sets(found):
    covered = [uncertainty.coverage(sets, labels) for sets, labels in found]
    of_class = np.array([uncertainty.class_coverage(*one) for one in found])
    there = ~np.isnan(of_class)
    sizes = [sets.sum(axis=1) for sets, _ in found]
    return {
        "coverage": float(np.mean(covered)),
        "spread": float(np.std(covered)),
        "set_size": float(np.mean([size.mean() for size in sizes])),
        "empty": float(np.mean([(size == 0).mean() for size in sizes])),
        "class_coverage": _list(
            np.where(there, of_class, 0).sum(axis=0)
            / np.where(there.any(axis=0), there.sum(axis=0), np.nan)
        ),
    }


def _list(array):
    """A JSON-able list, in which None stands for NaN."""
    return [None if np.isnan(value) else value for value in array.tolist()]
