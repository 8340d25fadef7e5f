import os
from pathlib import Path

import numpy as np
import pytest

from drifa_keras.data import Source


@pytest.fixture(scope="session")
def data_root():
    """The folder with the public data sets, where the machine has one."""
    default = Path(__file__).parents[2].parent / "shared" / "data"
    root = Path(os.environ.get("DRIFA_DATA", default))
    if not (root / "HAM10000").is_dir():
        pytest.skip(f"no HAM10000 below {root}; set DRIFA_DATA to test on real images")
    return root


@pytest.fixture
def make_source():
    """Build a small source whose pixels tell which case they come from."""

    def make(
        n=10, *, name="toy", modality="skin", task="label", classes=2, size=8, **fields
    ):
        images = np.zeros((n, size, size, 3), np.uint8)
        images += np.arange(1, n + 1, dtype=np.uint8)[:, None, None, None]
        fields = {
            "modalities": {modality: images},
            "targets": {task: np.arange(n) % classes},
            "class_names": {task: tuple(f"c{i}" for i in range(classes))},
            **fields,
        }
        return Source(name=name, **fields)

    return make
