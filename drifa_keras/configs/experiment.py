"""What the file of an experiment may say: networks, data sets and seeds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import pydantic

from drifa_keras.configs.schema import (
    Config,
    Section,
    find,
    load_config,
    named_configs,
    names_in,
    read_yaml,
    validate,
)

_FOLDER = Path(__file__).parent / "experiments"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _+,.()-]*(?<![ .])")


def _folder_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            "names become folders: they begin with a letter or digit, and hold "
            "letters, digits, spaces and _ + - , . ( ) alone"
        )
    return name


_Name = Annotated[str, pydantic.AfterValidator(_folder_name)]


class DatasetEntry(Section):
    """A training configuration, and what is different from it here."""

    config: str
    """Name of a training configuration, or path of one, from the file's own folder."""
    set: dict[str, Any] = pydantic.Field(default_factory=dict)
    """Settings that replace those of the file, by dotted key."""


class ModelEntry(Section):
    """A network: the one of the training configuration where there is no preset."""

    preset: str | None = None
    arguments: dict[str, Any] = pydantic.Field(default_factory=dict)


class Experiment(Section):
    """Several networks on several data sets, each with several seeds."""

    name: str
    title: str = ""
    datasets: dict[_Name, DatasetEntry] = pydantic.Field(min_length=1)
    models: dict[_Name, ModelEntry] = pydantic.Field(min_length=1)
    seeds: list[int] = pydantic.Field([0, 1, 2, 3, 4], min_length=1)
    metrics: list[str] = pydantic.Field(
        ["accuracy", "precision", "recall", "f1"], min_length=1
    )
    """What is shown; the first is what networks are compared by."""
    missing: bool = True
    """Whether every network is scored without each modality, too."""
    paper: dict[str, dict[str, dict[str, float]]] = pydantic.Field(default_factory=dict)
    """Published figures in per cent: task, network, metric."""
    notes: list[str] = pydantic.Field(default_factory=list)
    """Remarks that are printed below the table."""

    def config(
        self,
        dataset: str,
        model: str,
        seed: int,
        overrides: dict[str, Any] | None = None,
    ) -> Config:
        """The training configuration of one network, data set and seed."""
        data, network = self.datasets[dataset], self.models[model]
        settings = {**data.set, **(overrides or {}), "seed": seed}
        config = load_config(data.config, settings)
        arguments = network.arguments
        if network.preset is None:
            arguments = {**config.model.arguments, **arguments}
        chosen = {"preset": network.preset or config.model.preset}
        return config.model_copy(
            update={
                "model": config.model.model_copy(
                    update={**chosen, "arguments": arguments}
                )
            }
        )


def named_experiments() -> list[str]:
    """Names of the experiments that ship with the package."""
    return names_in(_FOLDER)


def load_experiment(name_or_path: str | Path) -> Experiment:
    """Reads the file of an experiment.

    A file with `extends: other` says only what is different from the other one; its
    sections are laid over those of the other.

    Args:
        name_or_path: Name of an experiment of the package, or path of a YAML file.

    Returns:
        An `Experiment`.

    Raises:
        ValueError: If there is no such file, it says what no `Experiment` knows, or it
            names a training configuration that does not exist.
    """
    path, content = _read(name_or_path, ())
    experiment = validate(Experiment, content, str(path))
    for label, entry in experiment.datasets.items():
        if entry.config not in named_configs() and not Path(entry.config).is_file():
            raise ValueError(
                f"{path}: datasets.{label}.config: no configuration {entry.config!r}: "
                f"it is neither a file nor one of {named_configs()}."
            )
    for task, rows in experiment.paper.items():
        unknown = sorted(set(rows) - set(experiment.models))
        if unknown:
            raise ValueError(
                f"{path}: paper.{task} names the network {unknown[0]!r}. There are "
                f"{list(experiment.models)}."
            )
    return experiment


def _read(name_or_path, extending):
    """The path and the content of a file, with what it extends."""
    path = find(name_or_path, _FOLDER, "experiment")
    if path in extending:
        raise ValueError(f"{path} extends itself.")
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a mapping with `datasets` and `models`.")
    for entry in (content.get("datasets") or {}).values():
        beside = isinstance(entry, dict) and path.parent / str(entry.get("config"))
        if beside and beside.is_file():
            entry["config"] = str(beside)
    other = content.pop("extends", None)
    if other is not None:
        beside = path.parent / f"{other}"
        other = beside if beside.is_file() else other
        _, below = _read(other, (*extending, path))
        content = _laid_over(below, {"name": path.stem, **content})
    content.setdefault("name", path.stem)
    return path, content


def _laid_over(below, above):
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    keys = {**below, **above}
    return {
        key: _laid_over(below[key], above[key])
        if key in below and key in above
        else keys[key]
        for key in keys
    }
