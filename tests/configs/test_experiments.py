"""Files of experiments: what they say, and one-line errors for what they must not."""

import pytest
import yaml

from drifa_keras.configs import load_config, load_experiment, named_experiments

MINIMAL = {
    "datasets": {"a": {"config": "phantoms"}},
    "models": {
        "One": {},
        "Two": {"preset": "mail_tiny", "arguments": {"dropout": 0.1}},
    },
}


@pytest.fixture
def write(tmp_path):
    def write(name="study", **changes):
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**MINIMAL, **changes}))
        return path

    return write


def test_tables_of_the_paper_are_there():
    tables = {f"table{n}_{size}" for n in range(1, 7) for size in ("small", "paper")}
    assert set(named_experiments()) >= tables | {"phantoms"}


@pytest.mark.parametrize("size", ["small", "paper"])
def test_tables_of_a_size_share_a_folder(size):
    """Where two of them name a training alike, it is the same one."""
    begun = {}
    for number in range(1, 7):
        experiment = load_experiment(f"table{number}_{size}")
        for dataset in experiment.datasets:
            for model in experiment.models:
                config = experiment.config(dataset, model, 0)
                config = config.model_dump(exclude={"name"})
                assert begun.setdefault((dataset, model), config) == config


@pytest.mark.parametrize("name", named_experiments())
def test_named_experiment(name):
    experiment = load_experiment(name)
    assert experiment.name == name
    assert len(experiment.seeds) == len(set(experiment.seeds)) >= 3
    for rows in experiment.paper.values():
        for figures in rows.values():
            assert set(figures) <= set(experiment.metrics)
            assert all(50 < figure <= 100 for figure in figures.values())
    for label in experiment.datasets:
        for model in experiment.models:
            config = experiment.config(label, model, 7)
            assert config.seed == 7
            if name.endswith("_paper"):
                assert config.training.epochs == 200
                assert config.training.pairs_per_epoch is None


def test_tables_share_the_networks_of_one_name():
    seen = {}
    for size in ("small", "paper"):
        for table in ("table1", "table4", "table5", "table6"):
            experiment = load_experiment(f"{table}_{size}")
            for model in experiment.models:
                config = experiment.config("ham10000_sipakmed", model, 0)
                assert seen.setdefault((size, model), config) == config
    # 27 rows, of which late concatenation, DRIFA-Net, MFA and MIFA occur again.
    assert len(seen) == 2 * (27 - 3 - 2 - 1 - 1)


@pytest.mark.large
@pytest.mark.parametrize("name", [f"table{n}_small" for n in range(1, 7)])
def test_networks_of_a_table_can_be_built(name):
    from drifa_keras.data import phantoms
    from drifa_keras.data.pairing import pair
    from drifa_keras.experiments import cells
    from drifa_keras.training.train import build_model

    experiment = load_experiment(name)
    maps = "brats2020" in experiment.datasets
    sources = phantoms(n=8, image_size=16, aligned=maps, segmentation=maps)
    pairing = pair(sources, channels={"dermoscopy": 3, "ct": 3})
    costs = {}
    for cell in cells(experiment, "nowhere"):
        if cell.seed == 0 and cell.dataset == next(iter(experiment.datasets)):
            costs[cell.model] = build_model(cell.config, pairing).count_params()
    assert list(costs) == list(experiment.models)
    whole = costs.get("DRIFA-Net", costs.get("MFA", costs.get("DRIFA-SegNet")))
    assert costs["SegNet" if maps else "Late concatenation"] < whole


def test_configuration_of_a_cell(write):
    experiment = load_experiment(
        write(datasets={"a": {"config": "phantoms", "set": {"training.epochs": 2}}})
    )
    plain = load_config("phantoms", {"training.epochs": 2, "seed": 5})
    assert experiment.config("a", "One", 5) == plain
    other = experiment.config("a", "Two", 5, {"training.batch_size": 4})
    assert (other.model.preset, other.model.arguments) == (
        "mail_tiny",
        {"dropout": 0.1},
    )
    assert (other.training.epochs, other.training.batch_size) == (2, 4)


def test_arguments_of_the_training_stay_without_a_preset(write):
    datasets = {"a": {"config": "ham10000_sipakmed_cpu"}}
    models = {"One": {"arguments": {"mfa": False}}, "Two": {"preset": "drifa_tiny"}}
    experiment = load_experiment(write(datasets=datasets, models=models))
    arguments = experiment.config("a", "One", 0).model.arguments
    assert arguments == {"filters": [32, 64, 128, 256], "mfa": False}
    assert experiment.config("a", "Two", 0).model.arguments == {}


def test_extending(write, tmp_path):
    write("below", seeds=[0, 1], title="Below")
    path = tmp_path / "above.yaml"
    path.write_text(
        "extends: below.yaml\nseeds: [9]\nmodels: {Two: {preset: drifa_tiny}}\n"
    )
    experiment = load_experiment(path)
    assert (experiment.name, experiment.title, experiment.seeds) == (
        "above",
        "Below",
        [9],
    )
    assert list(experiment.models) == ["One", "Two"]
    assert experiment.models["Two"].preset == "drifa_tiny"
    assert experiment.models["Two"].arguments == {"dropout": 0.1}
    path.write_text("extends: above.yaml\n")
    with pytest.raises(ValueError, match="extends itself"):
        load_experiment(path)


def test_training_beside_the_file(write, tmp_path):
    (tmp_path / "mine.yaml").write_text("data: {sources: [{reader: phantoms}]}\n")
    experiment = load_experiment(write(datasets={"a": {"config": "mine.yaml"}}))
    assert experiment.config("a", "One", 0).name == "mine"


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (
            {"datasets": {"a": {"config": "ham"}}},
            ("datasets.a.config", "'ham'", "phantoms"),
        ),
        ({"modles": {}}, ("'modles'", "Did you mean 'models'?")),
        (
            {"models": {"A": {"argments": {}}}},
            ("'models.A.argments'", "Did you mean 'arguments'?"),
        ),
        ({"models": {"../up": {}}}, ("models", "folders", "../up")),
        ({"models": {"a/b": {}}}, ("models", "folders")),
        ({"models": {}}, ("models",)),
        ({"seeds": []}, ("seeds",)),
        ({"seeds": ["a"]}, ("seeds.0",)),
        ({"paper": {"t": {"Three": {"f1": 90}}}}, ("paper.t", "'Three'", "'One'")),
    ],
)
def test_mistake_is_named(changes, parts, write):
    path = write(**changes)
    with pytest.raises(ValueError) as error:
        load_experiment(path)
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_unknown_experiment_lists_those_there_are():
    with pytest.raises(ValueError, match=r"'table9'.*table1_small"):
        load_experiment("table9")


def test_experiment_is_no_training(write):
    with pytest.raises(ValueError, match="drifa compare"):
        load_config(write())
