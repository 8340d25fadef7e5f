"""One tiny run of each kind, trained once and read by all tests."""

import pytest

from drifa_keras.configs import parse_config
from drifa_keras.training import train


@pytest.fixture(scope="session")
def make_config():
    """The configuration of a run of seconds; arguments replace those of `training`."""

    def make(modalities=("dermoscopy", "ct"), arguments=None, seed=11, **training):
        options = {"n": 120, "image_size": 16, "modalities": list(modalities)}
        return parse_config(
            {
                "name": "tiny",
                "seed": seed,
                "data": {
                    "sources": [{"reader": "phantoms", "options": options}],
                    "image_size": 16,
                    "augment": {"flip": "horizontal"},
                },
                "model": {
                    "preset": "drifa_tiny",
                    "arguments": {
                        "filters": [4],
                        "dropout_after": [],
                        "mfa": False,
                        "mifa": False,
                        **(arguments or {}),
                    },
                },
                "training": {
                    "epochs": 2,
                    "batch_size": 4,
                    "pairs_per_epoch": 16,
                    "schedule": "constant",
                    **training,
                },
                "evaluation": {"bootstrap": 0, "batch_size": 8},
            }
        )

    return make


@pytest.fixture(scope="session")
def trained(make_config, tmp_path_factory):
    """The folder of a run with attention, fusion and two tasks."""
    config = make_config(
        arguments={"mifa": {"mgifa": False}},
        schedule="cosine",
        class_weights=True,
    )
    folder = tmp_path_factory.mktemp("trained") / "deep" / "run"
    return train(config, folder, verbose=0)
