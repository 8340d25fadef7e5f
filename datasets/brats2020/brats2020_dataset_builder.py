"""TFDS builder of BraTS 2020."""

from functools import lru_cache

import numpy as np
import tensorflow_datasets as tfds

from drifa_keras.data import brats2020, brats2020_slices
from drifa_keras.data.tfds_builder import SourceBuilder


class Builder(SourceBuilder):
    """Axial slices of BraTS 2020, whole and at their own size; see README.md."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}

    PICTURES = {"flair": 1, "t1": 1, "t1ce": 1, "t2": 1, "mask": 1}

    def _read(self, root):
        # All slices at once take more than 16 GiB. Groups and labels, which the split
        # needs, do not depend on the size; the pictures come a subject at a time.
        source = brats2020(root, image_size=(1, 1), region=None)
        first = dict(zip(*np.unique(source.groups, return_index=True), strict=True))

        @lru_cache(maxsize=1)
        def subject(name):
            return brats2020_slices(root, subjects=[name], progress=False)

        def pictures(row):
            name = source.groups[row]
            slices, position = subject(name), row - first[name]
            images = {
                modality: pixels[position]
                for modality, pixels in slices.source.modalities.items()
            }
            return {**images, "mask": slices.labels[position][..., None]}

        return source, pictures
