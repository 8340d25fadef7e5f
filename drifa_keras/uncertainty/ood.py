"""Telling what the model was not made for by a score."""

from __future__ import annotations

import numpy as np

from drifa_keras.uncertainty._checks import check_values


def ood_metrics(in_distribution, out_of_distribution) -> dict[str, float]:
    """How well a score tells out-of-distribution samples from the others.

    Out of distribution is the positive class. The same measures say how well a score
    finds wrong predictions: pass those of the right and of the wrong ones.

    Reference: Hendrycks and Gimpel, *A Baseline for Detecting Misclassified and
    Out-of-Distribution Examples in Neural Networks*, ICLR 2017.

    Args:
        in_distribution: `(n,)` scores, such as `mutual_information`.
        out_of_distribution: `(m,)` scores of samples of another kind, which should be
            higher.

    Returns:
        Dict of `auroc` (1 is perfect, 1/2 is chance; equal scores count half), `aupr`
        (average precision; chance is m / (n + m)) and `fpr95` (the share of the
        in-distribution samples that score as high as the lowest threshold which at
        least 95 % of the others reach; 0 is perfect).

    Raises:
        ValueError: If there is no score, or one is not finite.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

    scores = [
        check_values(in_distribution, "in_distribution"),
        check_values(out_of_distribution, "out_of_distribution"),
    ]
    is_out = np.repeat([0, 1], [len(s) for s in scores])
    scores = np.concatenate(scores)
    # Every threshold counts here: leaving out those on straight parts of the curve
    # would move the first one at 95 %.
    false, true, _ = roc_curve(is_out, scores, drop_intermediate=False)
    return {
        "auroc": float(roc_auc_score(is_out, scores)),
        "aupr": float(average_precision_score(is_out, scores)),
        "fpr95": float(false[np.flatnonzero(true >= 0.95)[0]]),
    }
