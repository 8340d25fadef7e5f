"""TFDS builder of SIPaKMeD."""

import tensorflow_datasets as tfds

from drifa_keras.data.tfds_builder import SourceBuilder


class Builder(SourceBuilder):
    """SIPaKMeD; see README.md."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
