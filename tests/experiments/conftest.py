"""A tiny experiment on phantoms, run once and read by all tests."""

import pytest
import yaml

from drifa_keras.configs import load_experiment
from drifa_keras.experiments import cells, compare

TRAINING = {
    "data": {
        "sources": [{"reader": "phantoms", "options": {"n": 100, "image_size": 16}}],
        "image_size": 16,
    },
    "model": {
        "preset": "drifa_tiny",
        "arguments": {
            "filters": [4],
            "dropout_after": [],
            "mfa": False,
            "mifa": {"mgifa": False},
        },
    },
    "training": {
        "epochs": 2,
        "batch_size": 8,
        "pairs_per_epoch": 16,
        "schedule": "constant",
    },
    "evaluation": {"bootstrap": 0, "partner_draws": 2, "batch_size": 16},
}
EXPERIMENT = {
    "title": "Two_networks",
    "datasets": {"made up": {"config": "training.yaml", "set": {"training.epochs": 1}}},
    "models": {"Fused": {}, "Plain": {"arguments": {"mifa": False}}},
    "seeds": [3, 4],
    "metrics": ["accuracy", "f1"],
    "paper": {"ct_nodule": {"Fused": {"f1": 97.5}}},
    "notes": ["A remark with 100 % of its signs."],
}


@pytest.fixture(scope="session")
def write_experiment():
    """Writes the file of an experiment, and that of its training, into a folder."""

    def write(folder, **changes):
        (folder / "training.yaml").write_text(yaml.safe_dump(TRAINING))
        path = folder / "trial.yaml"
        path.write_text(yaml.safe_dump({**EXPERIMENT, **changes}, sort_keys=False))
        return path

    return write


@pytest.fixture(scope="session")
def done(write_experiment, tmp_path_factory):
    """The experiment, its cells, all done, and what `progress` was told."""
    folder = tmp_path_factory.mktemp("experiment")
    experiment = load_experiment(write_experiment(folder))
    of_experiment = cells(experiment, folder / "out")
    told = []
    compare(of_experiment, progress=lambda *news: told.append(news))
    return experiment, of_experiment, told
