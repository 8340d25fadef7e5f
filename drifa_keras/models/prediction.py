"""Prediction where modalities may be missing."""

import numpy as np

from drifa_keras.models.multimodal_model import _check_keys


def predict(model, images, batch_size=32, verbose=0):
    """Predicts every task, whichever modalities are at hand.

    Args:
        model: A `MultimodalModel`.
        images: Dict of modality to an array `(batch, height, width, channels)` with
            pixels 0..255. Modalities may be missing or `None`; within an array an
            all-zero image counts as absent too. At least one is needed.
        batch_size: Number of samples at a time.
        verbose: As in `keras.Model.predict`.

    Returns:
        Dict of task to probabilities `(batch, classes)`, NumPy float32.

    Raises:
        ValueError: If a modality is unknown, none is there, lengths differ, or the
            arrays do not fit the model.
    """
    images = complete(model, images)
    return model.predict(images, batch_size=batch_size, verbose=verbose)


def complete(model, images):
    """Adds blank images for the modalities that are missing.

    Args:
        model: A `MultimodalModel`.
        images: Dict of images, as for `predict`.

    Returns:
        Dict of every modality to its images.

    Raises:
        ValueError: If a modality is unknown, none is there, or lengths differ.
    """
    if not isinstance(images, dict):
        raise ValueError(
            f"`images` must be a dict keyed by modality, {list(model.modalities)}. "
            f"Received: {type(images).__name__}."
        )
    there = {
        name: np.asarray(array) for name, array in images.items() if array is not None
    }
    if not there:
        raise ValueError(
            f"No images. Pass at least one of the modalities {list(model.modalities)}."
        )
    _check_keys(
        {**images, **dict.fromkeys(model.modalities)},
        model.modalities,
        "modality",
        "modalities",
    )
    lengths = {name: len(array) for name, array in there.items() if array.ndim}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            "All modalities need as many images. Received: "
            f"{lengths}. Use images of zeros for the samples that lack one."
        )
    count = max(lengths.values(), default=0)
    return {
        name: there[name] if name in there else np.zeros((count, *shape), dtype="uint8")
        for name, shape in model.modalities.items()
    }
