"""How uncertain a prediction is, from the probabilities of several passes.

A pass is one draw of the probabilities: of a dropout mask, an ensemble's member, or
both. Every measure takes `(passes, n, ..., classes)`, gives `(n, ...)` in float64, and
is larger the more uncertain the prediction is. Entropies are in nats.

Total uncertainty is `predictive_entropy`. It is the sum of `expected_entropy`, what the
passes agree cannot be known (aleatoric), and `mutual_information`, what they disagree
about (epistemic).
"""

from __future__ import annotations

import numpy as np

from drifa_keras.uncertainty._checks import check_passes


def predictive_entropy(passes) -> np.ndarray:
    """Entropy of the mean probabilities, `H[mean_s p_s]`: total uncertainty.

    Args:
        passes: Probabilities `(passes, n, ..., classes)`.

    Returns:
        `(n, ...)`, from 0 to ln(classes).

    Raises:
        ValueError: If the probabilities do not sum to one, or there is no pass.
    """
    return _entropy(check_passes(passes).mean(axis=0, dtype="float64"))


def expected_entropy(passes) -> np.ndarray:
    """Mean entropy of the passes, `mean_s H[p_s]`: aleatoric uncertainty.

    Args:
        passes: Probabilities `(passes, n, ..., classes)`.

    Returns:
        `(n, ...)`, from 0 to `predictive_entropy`.

    Raises:
        ValueError: If the probabilities do not sum to one, or there is no pass.
    """
    return _expected_entropy(check_passes(passes))


def mutual_information(passes) -> np.ndarray:
    """Mutual information of class and pass: epistemic uncertainty.

    `H[mean_s p_s] - mean_s H[p_s]`, which is the mean Kullback-Leibler divergence of
    the passes from their mean, also known as BALD.

    Reference: Houlsby et al., *Bayesian Active Learning for Classification and
    Preference Learning*, 2011, Eq. 2; Gal et al., *Deep Bayesian Active Learning with
    Image Data*, ICML 2017.

    Args:
        passes: Probabilities `(passes, n, ..., classes)`.

    Returns:
        `(n, ...)`, from 0 (all passes agree) to ln(classes).

    Raises:
        ValueError: If the probabilities do not sum to one, or there is no pass.
    """
    passes = check_passes(passes)
    total = _entropy(passes.mean(axis=0, dtype="float64"))
    # Never negative but for the rounding of the difference.
    return np.maximum(total - _expected_entropy(passes), 0)


def variance(passes) -> np.ndarray:
    """Variance of the probabilities over the passes, mean over the classes.

    `1/C sum_k 1/S sum_s (p_sk - mean_s p_sk)^2`.

    Reference: Smith and Gal, *Understanding Measures of Uncertainty for Adversarial
    Example Detection*, UAI 2018, Sec. 3.

    Args:
        passes: Probabilities `(passes, n, ..., classes)`.

    Returns:
        `(n, ...)`, from 0 to 1/4.

    Raises:
        ValueError: If the probabilities do not sum to one, or there is no pass.
    """
    return check_passes(passes).var(axis=0, dtype="float64").mean(axis=-1)


def variation_ratio(passes) -> np.ndarray:
    """Share of the passes that do not vote for the class with the most votes.

    Reference: Gal, *Uncertainty in Deep Learning*, 2016, Sec. 3.3.1.

    Args:
        passes: Probabilities `(passes, n, ..., classes)`.

    Returns:
        `(n, ...)`, from 0 to 1 - 1 / classes.

    Raises:
        ValueError: If the probabilities do not sum to one, or there is no pass.
    """
    passes = check_passes(passes)
    return 1 - _votes(passes).max(axis=0) / len(passes)


def disagreement(passes) -> np.ndarray:
    """Share of the pairs of passes that vote for different classes.

    Args:
        passes: Probabilities `(passes, n, ..., classes)` of at least two passes.

    Returns:
        `(n, ...)`, from 0 to 1.

    Raises:
        ValueError: If the probabilities do not sum to one, or there is no pair.
    """
    passes = check_passes(passes)
    if len(passes) < 2:
        raise ValueError(
            "Disagreement is one of pairs of passes. Received: a single pass."
        )
    votes = _votes(passes)
    agreeing = (votes * (votes - 1)).sum(axis=0)  # ordered pairs
    return 1 - agreeing / (len(passes) * (len(passes) - 1))


def _entropy(probabilities):
    """Entropy over the last axis, in nats, where 0 ln 0 = 0."""
    p = probabilities.astype("float64")
    # Rounded probabilities may sum to a little more than one.
    return np.maximum(-(p * np.log(np.where(p > 0, p, 1))).sum(axis=-1), 0)


def _expected_entropy(passes):
    # One pass at a time, since the passes of maps are large.
    return sum(_entropy(one) for one in passes) / len(passes)


def _votes(passes):
    """Number of passes for which each class is the most probable, classes first."""
    votes = passes.argmax(axis=-1)
    return np.stack([(votes == k).sum(axis=0) for k in range(passes.shape[-1])])
