"""What a network has made of images before it decides, and a plane to see it in."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from drifa_keras.explain._arguments import sizes_of
from drifa_keras.explain._graph import lay_open
from drifa_keras.explain._heads import features_of
from drifa_keras.gradients import named_arrays, outputs_by_task, with_named_inputs


def embedding(
    model: keras.Model, x, batch_size: int = 32, tasks: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """The features that the last `Dense` layer of each task reads.

    Those of all its heads, side by side, where a task combines several.

    Args:
        model: A Functional model (or built Sequential) with any number of inputs and
            outputs.
        x: Images: a dict keyed by the names of the inputs, a list in their order, or
            one array for one input.
        batch_size: Samples at a time.
        tasks: Names of the tasks, all by default.

    Returns:
        Dict of task to a float32 array `(n, units)`.

    Raises:
        ValueError: If the images do not fit the model, or a task does not end in a
            `Dense` layer.
    """
    view = with_named_inputs(model)
    images = named_arrays(model, x)
    known = outputs_by_task(view)
    unknown = sorted(set(tasks or ()) - set(known))
    if unknown:
        raise ValueError(f"`tasks` names {unknown[0]!r}. The tasks are {list(known)}.")
    tasks = {task: known[task] for task in (known if tasks is None else tasks)}
    inputs, outputs = lay_open(view, list(tasks.values()), sizes_of(images))
    graph = keras.Model(inputs, outputs)
    features = {
        task: features_of(graph, output)
        for task, output in zip(tasks, outputs, strict=True)
    }
    for task, tensor in features.items():
        if tensor is None:
            raise ValueError(
                f"Task {task!r} does not end in a `Dense` layer, so that there are no "
                "features that one reads."
            )
    model = keras.Model(inputs, features)
    features = model.predict(images, batch_size=batch_size, verbose=0)
    return {task: array.astype("float32") for task, array in features.items()}


def tsne(features, perplexity: float = 30.0, seed: int = 0) -> np.ndarray:
    """Places samples in a plane so that neighbours stay neighbours.

    t-SNE by scikit-learn, started from the principal components. Distances between
    far groups, and the sizes of groups, mean nothing.

    Reference: van der Maaten and Hinton, *Visualizing Data using t-SNE*, JMLR 2008;
    Fig. 5 of Dhar et al., WACV 2025.

    Args:
        features: `(n, units)`, of one task, at least 4 samples.
        perplexity: About how many neighbours each sample has; lowered to a third of
            the samples where there are few.
        seed: The same seed gives the same picture.

    Returns:
        float32 array `(n, 2)`.

    Raises:
        ValueError: If the features are no matrix of at least 4 finite rows.
    """
    from sklearn.manifold import TSNE

    features = np.asarray(features)
    if features.ndim != 2 or len(features) < 4 or not np.isfinite(features).all():
        raise ValueError(
            "`features` must be finite, of shape (n, units) with at least 4 rows. "
            f"Received: shape {features.shape}. `embedding` returns them in a dict, "
            "one array a task."
        )
    perplexity = min(perplexity, (len(features) - 1) / 3)
    plane = TSNE(perplexity=perplexity, init="pca", random_state=seed)
    return plane.fit_transform(features)
