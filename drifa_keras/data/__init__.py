"""Data: from files on disk to batches.

`Source` is the one record that readers and `phantoms` produce; `split` divides it
by groups, `pair` or `align` joins sources, and `batches` and `once` make `tf.data`
pipelines. Only the pipelines need TensorFlow, and only when called.
"""

from drifa_keras.data.augment import Augment
from drifa_keras.data.images import read_image
from drifa_keras.data.leakage import (
    assert_no_leakage,
    audit,
    contact_sheet,
    fingerprint,
    merge_groups,
)
from drifa_keras.data.pairing import Pairing, align, pair
from drifa_keras.data.phantoms import phantoms
from drifa_keras.data.pipeline import batches, class_weights, once, steps_per_epoch
from drifa_keras.data.readers import (
    DATASETS,
    READERS,
    BratsSlices,
    Dataset,
    brain_tumor_mri,
    brats2020,
    brats2020_slices,
    ham10000,
    image_folder,
    iq_othnccd,
    medmnist,
    read,
    sipakmed,
    tfds_folder,
)
from drifa_keras.data.source import Source
from drifa_keras.data.splits import Split, split

__all__ = [
    "DATASETS",
    "READERS",
    "Augment",
    "BratsSlices",
    "Dataset",
    "Pairing",
    "Source",
    "Split",
    "align",
    "assert_no_leakage",
    "audit",
    "batches",
    "brain_tumor_mri",
    "brats2020",
    "brats2020_slices",
    "class_weights",
    "contact_sheet",
    "fingerprint",
    "ham10000",
    "image_folder",
    "iq_othnccd",
    "medmnist",
    "merge_groups",
    "once",
    "pair",
    "phantoms",
    "read",
    "read_image",
    "sipakmed",
    "split",
    "steps_per_epoch",
    "tfds_folder",
]
