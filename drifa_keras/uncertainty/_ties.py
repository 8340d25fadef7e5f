"""What order equal values come in must not matter."""

import numpy as np


def mean_over_ties(keys, values) -> np.ndarray:
    """Replaces each value by the mean of the values that share its key."""
    _, group = np.unique(keys, return_inverse=True)
    return (np.bincount(group, values) / np.bincount(group))[group]
