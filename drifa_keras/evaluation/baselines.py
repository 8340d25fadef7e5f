"""What any result has to beat."""

from __future__ import annotations

import numpy as np

from drifa_keras.data import Pairing


def baseline_predictions(
    train: Pairing, test: Pairing, image_size: tuple[int, int]
) -> dict[str, dict[str, np.ndarray]]:
    """Scores of the majority class and of the nearest neighbour in raw pixels.

    Args:
        train: The training part.
        test: The test part.
        image_size: (height, width) at which pixels are compared, in colour.

    Returns:
        Dict of baseline name (`"majority_class"`, `"nearest_neighbour"`) to dict of
        task to probabilities `(images, classes)`, one-hot; of a task that classifies
        every pixel, to labels `(images, height, width)`: at every place the most
        frequent one of the training images, and those of the nearest image.
    """
    from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

    results = {"majority_class": {}, "nearest_neighbour": {}}
    for source, test_source in zip(train.sources, test.sources, strict=True):
        channels = {name: train.modalities[name] for name in source.modalities}
        pixels = _pixels(source, channels, image_size)
        test_pixels = _pixels(test_source, channels, image_size)
        for task, names in source.class_names.items():
            if task in source.maps:
                maps = source.load(image_size, channels, progress=False).targets[task]
                counts = np.stack([(maps == k).sum(axis=0) for k in range(len(names))])
                results["majority_class"][task] = np.tile(
                    counts.argmax(axis=0), (len(test_source), 1, 1)
                )
                neighbour = NearestNeighbors(n_neighbors=1, algorithm="brute")
                nearest = neighbour.fit(pixels).kneighbors(
                    test_pixels, return_distance=False
                )[:, 0]
                results["nearest_neighbour"][task] = np.maximum(maps[nearest], 0)
                continue
            labels = source.targets[task]
            known = labels >= 0
            eye = np.eye(len(names))
            counts = np.bincount(labels[known], minlength=len(names))
            results["majority_class"][task] = np.tile(
                eye[counts.argmax()], (len(test_source), 1)
            )
            neighbour = KNeighborsClassifier(n_neighbors=1, algorithm="brute")
            neighbour.fit(pixels[known], labels[known])
            results["nearest_neighbour"][task] = eye[neighbour.predict(test_pixels)]
    return results


def _pixels(source, channels, image_size):
    loaded = source.load(image_size, channels, progress=False)
    return np.concatenate(
        [
            images.reshape(len(images), -1).astype("float32")
            for images in loaded.modalities.values()
        ],
        axis=1,
    )
