"""The folder of a training run, which every command reads."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import yaml

from drifa_keras.configs import Config, first_difference, parse_config, read_yaml
from drifa_keras.data import READERS, Pairing, Split, pair, phantoms, read, split
from drifa_keras.data.leakage import (
    assert_no_leakage,
    fingerprint,
    merge_groups,
    merging_rule,
    needs_thumbnails,
)

# The folder of what an interrupted training goes on from. It is there for as long as
# the training is not done.
STATE = "state"

_VERSIONED = ("drifa_keras", "keras", "tensorflow", "jax", "torch", "numpy")


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
        folder: Where it is.
        config: The configuration that it was trained with.
        class_names: Task name to the names of its classes.
        leakage: What leaks between its splits, where that was allowed.
    """

    folder: Path
    config: Config
    class_names: dict[str, tuple[str, ...]]
    leakage: tuple[str, ...] = ()

    @property
    def model_path(self) -> Path:
        """The best model."""
        return self.folder / "model.keras"

    @property
    def unfinished(self) -> bool:
        """Whether its training is under way, or was interrupted."""
        return (self.folder / STATE).is_dir()

    @classmethod
    def create(cls, config: Config, class_names, folder: str | Path, leakage=()) -> Run:
        """Makes a new folder and writes `config.yaml` into it.

        Raises:
            ValueError: If the folder holds anything but a training that was
                interrupted.
        """
        import keras

        folder = require_free(folder)
        folder.mkdir(parents=True, exist_ok=True)
        content = config.model_dump(mode="json")
        content["resolved"] = {
            "class_names": {task: list(names) for task, names in class_names.items()},
            "backend": keras.backend.backend(),
            "versions": _versions(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "leakage": list(leakage),
        }
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        write_text(folder / "config.yaml", text)
        names = {task: tuple(names) for task, names in class_names.items()}
        return cls(folder, config, names, tuple(leakage))

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Opens a run folder.

        Raises:
            ValueError: If it is not one.
        """
        folder = Path(folder)
        path = folder / "config.yaml"
        if not path.is_file():
            raise ValueError(
                f"{folder} is no run folder: it has no config.yaml. `drifa train` "
                "makes one and prints where it is."
            )
        content = read_yaml(path)
        resolved = content.pop("resolved", {}) if isinstance(content, dict) else {}
        try:
            names = {
                str(task): tuple(map(str, names))
                for task, names in resolved["class_names"].items()
            }
            leakage = tuple(map(str, resolved.get("leakage", ())))
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} lacks the section `resolved` that `drifa train` writes, or "
                "holds another in its place."
            ) from error
        return cls(folder, parse_config(content, str(path)), names, leakage)

    def at(self, data_root: str | Path | None) -> Config:
        """The configuration, with the data sets in another folder unless `None`."""
        if data_root is None:
            return self.config
        data = self.config.data.model_copy(update={"root": str(data_root)})
        return self.config.model_copy(update={"data": data})

    def load_model(self):
        """Loads the best model."""
        import keras

        if not self.model_path.is_file():
            raise ValueError(
                f"{self.folder} has no model.keras: the training did not finish an "
                "epoch. Train again."
            )
        try:
            return keras.models.load_model(self.model_path)
        # What a damaged file raises depends on where in it the damage is.
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"{self.model_path} cannot be loaded ({type(error).__name__}: "
                f"{reason}). It is damaged, or was written by another version: "
                f"config.yaml names those of the training. Train again."
            ) from error

    def read_json(self, name: str):
        """Reads a JSON file of the folder."""
        path = self.folder / name
        if not path.is_file():
            raise ValueError(f"{self.folder} has no {name}. Train again.")
        return read_json(path)

    def write_json(self, name: str, content) -> Path:
        """Writes a JSON file into the folder."""
        return write_text(self.folder / name, json.dumps(content, indent=2) + "\n")


def read_json(path: Path):
    """Reads a JSON file, or raises a one-line `ValueError`."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is not valid JSON ({error}). Delete it, and run the command that "
            "writes it again."
        ) from error


def write_text(path: Path, text: str) -> Path:
    """Writes a text file; at any moment the file is the old one or the new one."""
    return write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_whole(path: Path, write: Callable[[Path], object]) -> Path:
    """Calls `write` with a path beside `path`, and moves what it wrote to `path`."""
    part = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        write(part)
        return move_whole(part, path)
    finally:
        with contextlib.suppress(OSError):  # of a disk that takes nothing any more
            part.unlink(missing_ok=True)


def remove_parts(folder: Path) -> None:
    """Removes what `write_whole` left in a folder when its process was killed."""
    for part in folder.glob(".*-*"):
        if part.name[1:].partition("-")[0].isdecimal():
            part.unlink()


def move_whole(part: Path, path: Path) -> Path:
    """Moves a file to `path` on the same disk; no power cut leaves half of it."""
    with part.open("r+b") as file:
        os.fsync(file.fileno())
    os.replace(part, path)
    if os.name == "posix":  # where a folder can be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return path


def unfinished_run(config: Config, folder: str | Path) -> Run | None:
    """The run of a folder in which the training of `config` was interrupted.

    Returns:
        The `Run`, or `None` if the folder is free.

    Raises:
        ValueError: If the folder is taken, or the training that was interrupted there
            is that of another configuration.
    """
    folder = require_free(folder)
    # Before both are there, nothing was done that is worth going on with.
    if not all((folder / name).is_file() for name in ("config.yaml", "splits.json")):
        return None
    run = Run.open(folder)
    require_same(run, config)
    return run


def require_same(run: Run, config: Config) -> None:
    """A `ValueError` unless a run is that of `config`; its data may have moved."""
    difference = first_difference(run.at(config.data.root), config)
    if difference is not None:
        key, there, here = difference
        raise ValueError(
            f"{run.folder} holds a run with {key} = {there!r}, not {here!r}. Give the "
            "configuration that it was begun with, choose another folder with --out, "
            "or move it away."
        )


def require_free(folder: str | Path) -> Path:
    """Returns the path of a run folder to make; a `ValueError` if that cannot be.

    A folder in which a training was interrupted is not taken.
    """
    folder = Path(folder)
    if folder.exists() and (
        not folder.is_dir() or (any(folder.iterdir()) and not (folder / STATE).is_dir())
    ):
        raise ValueError(
            f"The run folder {folder} exists already and is never overwritten. "
            "Choose another with --out, or move it away."
        )
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(there, os.W_OK):
        raise ValueError(
            f"Nothing can be written to {there}, in which the run folder {folder} is "
            "to be. Choose another with --out, or make it writable."
        )
    return folder


def read_sources(config: Config) -> Pairing:
    """Reads the sources that a configuration names."""
    sources = []
    for entry in config.data.sources:
        if entry.reader == "phantoms":
            _check_options("phantoms", phantoms, entry.options)
            sources += phantoms(**entry.options)
        else:
            _check_options(entry.reader, READERS.get(entry.reader), entry.options)
            root = Path(config.data.root) / entry.path
            sources.append(read(entry.reader, root, **entry.options))
    channels = {name: 3 for source in sources for name in source.modalities}
    unknown = sorted(set(config.data.channels) - set(channels))
    if unknown:
        raise ValueError(
            f"data.channels names the modality {unknown[0]!r}. There are "
            f"{sorted(channels)}."
        )
    return pair(sources, channels={**channels, **config.data.channels})


def _check_options(name, reader, options):
    """Raises a `ValueError` for an option that a reader does not take."""
    if reader is None:
        return  # `read` names the readers there are
    known = [key for key in inspect.signature(reader).parameters if key != "root"]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(
            f"data.sources: the reader {name!r} has no option {unknown[0]!r}. Its "
            f"options are {known}."
        )


@dataclass(frozen=True)
class Splits:
    """How the sources of a run are split.

    Attributes:
        parts: One `Split` a source.
        leakage: What leaks between the parts, where that was allowed.
    """

    parts: tuple[Split, ...]
    leakage: tuple[str, ...] = ()

    def write(self, run: Run, pairing: Pairing) -> None:
        """Writes `splits.json`."""
        table = {
            source.name: part.to_dict()
            for source, part in zip(pairing.sources, self.parts, strict=True)
        }
        run.write_json("splits.json", table)

    def take(self, pairing: Pairing, name: str) -> Pairing:
        """The part `name` of each source, with the groups that were kept together."""
        sources = [
            replace(source, groups=part.groups)
            for source, part in zip(pairing.sources, self.parts, strict=True)
        ]
        rows = [getattr(part, name) for part in self.parts]
        return replace(pairing, sources=tuple(sources)).take(rows)


def split_sources(pairing: Pairing, config: Config, progress: bool = True) -> Splits:
    """Splits each source as the configuration says, and checks that nothing leaks.

    Raises:
        ValueError: If a group or an identical image is in more than one part, unless
            `data.allow_leakage` is set.
    """
    parts, leakage = [], []
    for source in pairing.sources:
        part, leak = _split_source(source, config.data, progress)
        parts.append(part)
        leakage += leak
    return Splits(tuple(parts), tuple(leakage))


def read_splits(run: Run, pairing: Pairing) -> Splits:
    """Reads the `splits.json` of a run."""
    table = run.read_json("splits.json")
    parts = [
        _saved_split(table, source, run.folder / "splits.json", bool(run.leakage))
        for source in pairing.sources
    ]
    return Splits(tuple(parts), run.leakage)


def _split_source(source, data, progress):
    rule = data.merge_groups_by
    rule = merging_rule(source) if rule is None else rule
    near = needs_thumbnails(rule)
    prints = [
        fingerprint(source, progress, modality=name, thumbnails=near)
        for name in source.modalities
    ]
    for seen in prints:
        source = merge_groups(source, seen, rule, progress=progress)
    if data.split_file is not None:
        path = Path(data.split_file)
        part = _saved_split(_read_table(path), source, path, data.allow_leakage)
        source = replace(source, groups=part.groups)
    else:
        part = split(source, data.split, data.split_seed, official=data.official_split)
    try:
        for seen in prints:
            assert_no_leakage(source, part, seen)
    except ValueError as error:
        if not data.allow_leakage:
            raise ValueError(
                f"{error} To train all the same, pass --allow-leakage "
                "(data.allow_leakage: true); the run will say so."
            ) from error
        return part, [str(error)]
    return part, []


def _read_table(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"data.split_file: {path} is not the splits.json of a run "
            f"({type(error).__name__}: {error})."
        ) from error


def _saved_split(table, source, path, allow_leakage):
    if not isinstance(table, dict) or source.name not in table:
        known = sorted(table) if isinstance(table, dict) else type(table).__name__
        raise ValueError(f"{path} has no split for {source.name!r}. It is for {known}.")
    return Split.from_json(table[source.name], source, allow_leakage)


def load_images(pairing: Pairing, config: Config, progress: bool = True) -> Pairing:
    """Decodes all images into memory where they fit, else leaves them on disk."""
    height, width = config.data.size
    needed = sum(
        len(source) * height * width * pairing.modalities[name]
        for source in pairing.sources
        for name in source.modalities
    )
    if needed > config.data.memory_limit_gib * 2**30:
        return pairing
    loaded = [
        source.load(
            config.data.size,
            {name: pairing.modalities[name] for name in source.modalities},
            progress=progress,
        )
        for source in pairing.sources
    ]
    return pair(loaded)


def _versions():
    versions = {"python": platform.python_version()}
    for package in _VERSIONED:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
