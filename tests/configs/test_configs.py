"""Configurations: what they say, and one-line errors for what they must not."""

import pytest

from drifa_keras.configs import Config, load_config, named_configs, parse_config
from drifa_keras.data import DATASETS, READERS, Augment
from drifa_keras.models import presets

MINIMAL = "data: {sources: [{reader: phantoms}]}\n"


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "study.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def failure(*arguments):
    with pytest.raises(ValueError) as error:
        load_config(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_named_configurations_of_the_project_are_there():
    assert set(named_configs()) >= {
        "phantoms",
        "ham10000_sipakmed_small",
        "ham10000_sipakmed_cpu",
        "ham10000_sipakmed_paper",
        "brain_tumor_mri_iq_othnccd_small",
        "brain_tumor_mri_iq_othnccd_paper",
        "phantoms_segmentation",
        "brats2020_small",
        "brats2020_paper",
    }


@pytest.mark.parametrize("name", named_configs())
def test_named_configuration_parses(name):
    config = load_config(name)
    assert config.name == name
    assert config.model.preset in presets()
    assert all(s.reader in {*READERS, "phantoms"} for s in config.data.sources)
    Augment(**config.data.augment.model_dump())
    # What a run folder keeps is the same configuration.
    assert parse_config(config.model_dump(mode="json")) == config


def test_paper_configuration_is_the_papers_recipe():
    config = load_config("ham10000_sipakmed_paper")
    assert config.data.size == (128, 128)
    sources = [DATASETS[source.reader] for source in config.data.sources]
    assert [source.split for source in sources] == [(0.8, 0.1, 0.1)] * 2
    training = config.training
    assert (training.learning_rate, training.batch_size) == (1e-3, 32)
    assert (training.epochs, training.schedule) == (200, "plateau")


def test_small_configuration_is_the_one_for_tables_of_many_runs():
    config = load_config("ham10000_sipakmed_small")
    assert config.data.size == (32, 32)
    assert (config.training.epochs, config.training.pairs_per_epoch) == (5, 8000)


def test_file_by_path_is_named_after_it(write):
    config = load_config(write(MINIMAL))
    assert config.name == "study"
    assert config.seed == 0
    assert load_config(write(MINIMAL + "name: other\n")).name == "other"


def test_image_size_may_be_height_and_width(write):
    text = "data: {sources: [{reader: phantoms}], image_size: [32, 48]}\n"
    assert load_config(write(text)).data.size == (32, 48)


def test_overrides_replace_and_add(write):
    config = load_config(
        write(MINIMAL),
        {"training.epochs": 3, "seed": 7, "model.arguments.mfa": False},
    )
    assert config.training.epochs == 3
    assert config.seed == 7
    assert config.model.arguments == {"mfa": False}
    # Those of the file that were not named stay.
    assert load_config("phantoms", {"training.epochs": 1}).training.schedule == "cosine"


UNKNOWN = {
    "at the top": (MINIMAL + "sead: 3\n", ("'sead'", "Did you mean 'seed'?")),
    "in a section": (
        MINIMAL + "training: {epoch: 3}\n",
        ("'training.epoch'", "Did you mean 'epochs'?", "batch_size"),
    ),
    "in a section of a section": (
        "data: {sources: [{reader: phantoms}], augment: {flipp: vertical}}\n",
        ("'data.augment.flipp'", "Did you mean 'flip'?"),
    ),
    "in a list": (
        "data: {sources: [{reader: phantoms}, {reader: phantoms, pth: a}]}\n",
        ("'data.sources.1.pth'", "Did you mean 'path'?"),
    ),
    "unlike anything": (MINIMAL + "qqq: 3\n", ("'qqq'", "Known here", "training")),
    "a number": (MINIMAL + "3: 3\n", ("3",)),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_unknown_key(case, write):
    text, parts = UNKNOWN[case]
    path = write(text)
    message = failure(path)
    assert str(path) in message
    for part in parts:
        assert part in message


WRONG = {
    "a word for a number": (
        MINIMAL + "training: {epochs: many}\n",
        ("training.epochs", "integer", "'many'"),
    ),
    "no epochs": (MINIMAL + "training: {epochs: 0}\n", ("training.epochs", "0")),
    "a negative rate": (
        MINIMAL + "training: {learning_rate: -1}\n",
        ("training.learning_rate", "-1"),
    ),
    "an unknown schedule": (
        MINIMAL + "training: {schedule: linear}\n",
        ("training.schedule", "'cosine'", "'linear'"),
    ),
    "two channels": (
        "data: {sources: [{reader: phantoms}], channels: {ct: 2}}\n",
        ("data.channels.ct", "2"),
    ),
    "a section that is a word": (MINIMAL + "training: fast\n", ("training", "'fast'")),
    "no sources": ("data: {sources: []}\n", ("data.sources", "at least 1")),
    "no data": ("seed: 3\n", ("data", "required")),
    "a source without a reader": (
        "data: {sources: [{path: a}]}\n",
        ("data.sources.0.reader", "required"),
    ),
    "no mapping": ("- a\n- b\n", ("mapping", "`data`")),
    "an empty file": ("", ("mapping", "`data`")),
    "no YAML": ("data: {sources: [\n", ("not valid YAML",)),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_content(case, write):
    text, parts = WRONG[case]
    path = write(text)
    message = failure(path)
    assert str(path) in message
    for part in parts:
        assert part in message


def test_missing_file_lists_the_names():
    message = failure("phantom")
    assert "'phantom'" in message
    assert "'phantoms'" in message
    assert "'nowhere/study.yaml'" in failure("nowhere/study.yaml")


def test_folder_is_no_configuration(tmp_path):
    assert str(tmp_path) in failure(tmp_path)


def test_file_that_is_no_text(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_bytes(b"\xff\xfe\x00data")
    assert "not valid YAML" in failure(path)


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        ({"training.epoch": 3}, ("'training.epoch'", "Did you mean 'epochs'?")),
        ({"trainig.epochs": 3}, ("'trainig'", "Did you mean 'training'?")),
        ({"seed.value": 3}, ("'seed.value'", "'seed' is not a section")),
        ({"training.epochs": "x"}, ("training.epochs", "'x'")),
    ],
)
def test_bad_override(overrides, parts, write):
    message = failure(write(MINIMAL + "seed: 1\n"), overrides)
    for part in parts:
        assert part in message


def test_configuration_cannot_be_changed_by_accident():
    config = load_config("phantoms")
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3


def test_schema_defaults_are_the_papers_recipe():
    training = Config(data={"sources": [{"reader": "phantoms"}]}).training
    assert (training.learning_rate, training.batch_size) == (1e-3, 32)
    assert (training.epochs, training.schedule) == (200, "plateau")
    assert training.loss_weights is None
