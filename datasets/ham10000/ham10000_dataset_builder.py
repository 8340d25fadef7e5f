"""TFDS builder of HAM10000."""

import tensorflow_datasets as tfds

from drifa_keras.data.tfds_builder import SourceBuilder


class Builder(SourceBuilder):
    """HAM10000; see README.md."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
