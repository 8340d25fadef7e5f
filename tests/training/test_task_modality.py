"""Which modality a network of one modality a task reads."""

import numpy as np
import pytest

from drifa_keras.configs import ModelConfig
from drifa_keras.data import Source, align, pair
from drifa_keras.models.baselines import SingleModalityNet
from drifa_keras.training.train import build_model


def source(task, *modalities):
    return Source(
        name=task,
        modalities={name: np.full((4, 16, 16, 1), 9, "uint8") for name in modalities},
        targets={task: np.array([0, 1, 0, 1])},
        class_names={task: ("no", "yes")},
        groups=np.arange(4),
    )


@pytest.fixture
def config(make_config):
    def make(**arguments):
        arguments = {"filters": [4], "dropout_after": [], **arguments}
        model = ModelConfig(preset="single_tiny", arguments=arguments)
        return make_config().model_copy(update={"model": model})

    return make


def test_a_task_is_read_from_its_source(config):
    # In sorted order the modalities would go the other way round.
    pairing = pair([source("grade", "mri"), source("nodule", "ct")])
    model = build_model(config(), pairing)
    assert isinstance(model, SingleModalityNet)
    assert model.task_modality == {"grade": "mri", "nodule": "ct"}


def test_the_configuration_has_the_last_word(config):
    pairing = pair([source("grade", "mri"), source("nodule", "ct")])
    model = build_model(config(task_modality={"grade": "ct"}), pairing)
    assert model.task_modality == {"grade": "ct", "nodule": "ct"}


def test_one_of_several_has_to_be_named(config):
    pairing = align(source("grade", "flair", "t1"))
    with pytest.raises(ValueError, match=r"'grade'.*'flair', 't1'.*task_modality"):
        build_model(config(), pairing)
    model = build_model(config(task_modality={"grade": "t1"}), pairing)
    assert model.task_modality == {"grade": "t1"}
