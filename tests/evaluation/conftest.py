"""A run folder as training leaves it, but with an untrained network: quick to make."""

import keras
import pytest

from drifa_keras.configs import parse_config
from drifa_keras.runs import Run, read_sources, split_sources
from drifa_keras.training.train import build_model


@pytest.fixture(scope="module")
def make_run(tmp_path_factory):
    """Make a run folder for sources given as configurations."""

    def make(*sources, arguments=None, **evaluation):
        config = parse_config(
            {
                "seed": 3,
                "data": {"sources": list(sources), "image_size": 16},
                "model": {
                    "preset": "drifa_tiny",
                    "arguments": {
                        "filters": [4],
                        "dropout_after": [],
                        "mfa": False,
                        "mifa": {"mlifa": False},
                        **(arguments or {}),
                    },
                },
                "evaluation": {"bootstrap": 20, "batch_size": 8, **evaluation},
            }
        )
        pairing = read_sources(config)
        folder = tmp_path_factory.mktemp("runs") / "run"
        run = Run.create(config, pairing.class_names, folder)
        split_sources(pairing, config).write(run, pairing)
        keras.utils.set_random_seed(5)
        build_model(config, pairing).save(run.model_path)
        return run

    return make
