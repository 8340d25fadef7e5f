"""SourceBuilder: a TFDS builder around a reader.

Needs tensorflow-datasets, the extra `tfds`; only the builders in `datasets/` import it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from drifa_keras.data.images import read_image
from drifa_keras.data.leakage import merge_groups
from drifa_keras.data.readers import DATASETS
from drifa_keras.data.source import Source
from drifa_keras.data.splits import split

# TFDS calls the second part otherwise.
_TFDS_SPLITS = {"train": "train", "val": "validation", "test": "test"}


class SourceBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """What the TFDS builders of published data sets share.

    A subclass is called `Builder` and lies in `<name>/<name>_dataset_builder.py`,
    where `name` is a key of `drifa_keras.data.DATASETS`: the reader and every fact come
    from there. It has a `VERSION` and `RELEASE_NOTES`.

    Each example has its pictures (PNG, with the pixels that the reader gives), `label`,
    and

    - `id`: as in the `Source`.
    - `group`: that of `drifa_keras.data.merge_groups`; never in two splits.
    - `index`: row of the `Source`. Sorted by it, the examples of all splits are the
      `Source` again (`drifa_keras.data.readers.tfds_folder`).
    - `split`: "train", "val" or "test" by `drifa_keras.data.split` with seed 0. The
      TFDS splits train, validation and test are these parts.
    - `official_split`: the publisher's split, for data sets that have one.
    """

    PICTURES: ClassVar[dict[str, int]] = {"image": 3}
    """Name of each picture of an example, and its channels."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.dataset = DATASETS[cls.name]
        cls.MANUAL_DOWNLOAD_INSTRUCTIONS = (
            f"Put {cls.dataset.layout} into manual_dir. {cls.dataset.where}"
        )

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            name: tfds.features.Image(
                shape=(None, None, channels), dtype=np.uint8, encoding_format="png"
            )
            for name, channels in self.PICTURES.items()
        }
        features["label"] = tfds.features.ClassLabel(names=self.dataset.classes)
        features["index"] = tfds.features.Scalar(np.int64)
        texts = ["id", "group", "split"]
        if self.dataset.official_split:
            texts.append("official_split")
        features |= {name: tfds.features.Text() for name in texts}
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label") if "image" in features else None,
            homepage=self.dataset.page,
            license=self.dataset.licence,
        )

    def _split_generators(self, dl_manager):
        source, pictures = self._read(dl_manager.manual_dir)
        source = merge_groups(source)
        parts = split(source, seed=0).parts()
        return {
            _TFDS_SPLITS[part]: self._generate_examples(source, pictures, part, rows)
            for part, rows in parts.items()
        }

    def _read(
        self, root: str | os.PathLike
    ) -> tuple[Source, Callable[[int], dict[str, np.ndarray]]]:
        """The source in `root`, and a function from a row to its pictures."""
        source = self.dataset.read(root)
        (paths,) = source.modalities.values()
        return source, lambda row: {"image": read_image(paths[row])}

    def _generate_examples(
        self, source: Source, pictures, part: str, rows: np.ndarray
    ) -> Iterator[tuple[str, dict]]:
        (labels,) = source.targets.values()
        for row in rows.tolist():
            example = {
                **pictures(row),
                "label": int(labels[row]),
                "index": row,
                "id": str(source.ids[row]),
                "group": str(source.groups[row]),
                "split": part,
            }
            if source.official_split is not None:
                example["official_split"] = str(source.official_split[row])
            yield example["id"], example
