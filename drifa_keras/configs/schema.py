"""What a configuration file may say; everything else is an error."""

from __future__ import annotations

import difflib
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml

_FOLDER = Path(__file__).parent


class Section(pydantic.BaseModel):
    """A part of a file; a key that it does not know is an error."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class SourceConfig(Section):
    """One reader and its options."""

    reader: str
    """Name of a reader, or `phantoms` for images that the package makes itself."""
    path: str = "."
    """Folder of the data set, relative to `data.root`."""
    options: dict[str, Any] = {}
    """Arguments of the reader, such as `modality`, `task` and `groups`."""


class AugmentConfig(Section):
    """Arguments of `drifa_keras.data.Augment`."""

    flip: Literal["horizontal", "vertical", "horizontal_and_vertical"] | None = None
    rotation: float = 0.0
    translation: float = 0.0
    rand_augment: bool = False
    mixup: float = 0.0
    cutmix: float = 0.0


class DataConfig(Section):
    """Which images, at which size, split how."""

    sources: list[SourceConfig] = pydantic.Field(min_length=1)
    root: str = "."
    """Folder that holds the data sets."""
    image_size: int | tuple[int, int] = 128
    """Side in pixels, or height and width."""
    channels: dict[str, Literal[1, 3]] = {}
    """Channels of a modality where they are not 3."""
    split: tuple[float, float, float] | None = None
    """Shares of train, validation and test; those of the data set by default."""
    official_split: bool = False
    """Whether to use the split that the publisher fixed."""
    split_seed: int = 0
    split_file: str | None = None
    """The `splits.json` of another run, to split as it did."""
    merge_groups_by: (
        tuple[Literal["exact", "confirmed", "dhash", "cosine"], ...] | None
    ) = None
    """Which look-alikes are held together with the groups: those that hold for the
    data set by default, `[]` for none."""
    allow_leakage: bool = False
    """Whether to go on where groups or identical images straddle the parts."""
    augment: AugmentConfig = AugmentConfig()
    memory_limit_gib: float = 4.0
    """Images are held in memory, decoded, where they fit; else read each epoch."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        size = self.image_size
        return (size, size) if isinstance(size, int) else tuple(size)


class ModelConfig(Section):
    """A preset and the arguments that replace its own."""

    preset: str = "drifa_resnet18"
    arguments: dict[str, Any] = {}


def as_share(value: Any) -> Any:
    """Reads a fraction such as "4/255"; anything else comes back as it is."""
    try:
        return float(Fraction(value)) if isinstance(value, str) else value
    except (ValueError, ZeroDivisionError):
        return value


class AdversarialConfig(Section):
    """Arguments of `drifa_keras.training.adversarial_training`."""

    eps: Annotated[float, pydantic.BeforeValidator(as_share)] = pydantic.Field(
        gt=0, le=1
    )
    """Largest change of a pixel, as a share of its range, such as 4/255."""
    steps: int = pydantic.Field(10, ge=1)
    step_size: float | None = pydantic.Field(None, gt=0)
    """In units of `eps`."""


class TrainingConfig(Section):
    """The recipe; the defaults are the paper's."""

    epochs: int = pydantic.Field(200, ge=1)
    batch_size: int = pydantic.Field(32, ge=1)
    pairs_per_epoch: int | None = pydantic.Field(None, ge=1)
    """Training pairs an epoch; as many as the longest source by default."""
    learning_rate: float = pydantic.Field(1e-3, gt=0)
    schedule: Literal["plateau", "cosine", "constant"] = "plateau"
    """`plateau`: factor 0.2 after 5 epochs without a better validation loss, down
    to 1e-5. `cosine`: down to 0 over the run, after one epoch of warm-up."""
    loss_weights: dict[str, float] | None = None
    """Weight of each task's loss; 1 / (number of tasks) by default."""
    class_weights: bool = False
    """Whether to weight samples inversely to the frequency of their class."""
    adversarial: AdversarialConfig | None = None
    """Trains on adversarial images instead of clean ones."""
    monitor: str = "val_loss"
    """What picks the best epoch; a name that contains `loss` is minimised."""
    dtype: str | None = None
    """Dtype policy, such as `mixed_bfloat16`."""
    distribute: bool = False
    """Whether all devices of the machine share each batch (JAX, TensorFlow)."""
    rematerialize: bool = False
    """Whether the backward pass works the two branches of every MFA out again, for
    which it else keeps several maps: less memory, longer steps, the same weights."""
    jit_compile: bool | None = None
    """Whether to compile with XLA; `None` leaves it off for TensorFlow on CPUs,
    where it makes the first step slower and the others no faster."""


class EvaluationConfig(Section):
    """How the test split is scored."""

    partner_draws: int = pydantic.Field(3, ge=1)
    """How often the partners of unrelated sources are drawn anew."""
    bootstrap: int = pydantic.Field(500, ge=0)
    """Resamples behind the confidence intervals."""
    batch_size: int = pydantic.Field(64, ge=1)


class Config(Section):
    """A whole training run."""

    name: str = "run"
    seed: int = 0
    data: DataConfig
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()


def named_configs() -> list[str]:
    """Names of the configurations that ship with the package."""
    return names_in(_FOLDER)


def names_in(folder: Path) -> list[str]:
    """Names of the YAML files of a folder."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def find(name_or_path: str | Path, folder: Path, kind: str) -> Path:
    """The path of a file: as given, or by its name in a folder of the package."""
    path = Path(name_or_path)
    if not path.is_file():
        path = folder / f"{name_or_path}.yaml"
    if not path.is_file():
        raise ValueError(
            f"No {kind} {str(name_or_path)!r}: it is neither a file nor one of "
            f"{names_in(folder)}."
        )
    return path


def load_config(name_or_path: str | Path, overrides: dict[str, Any] | None = None):
    """Reads a configuration.

    Args:
        name_or_path: Name of a configuration of the package, or path of a YAML file.
        overrides: Values that replace those of the file, by dotted key, such as
            `{"training.epochs": 5}`.

    Returns:
        A `Config`.

    Raises:
        ValueError: If there is no such file or it says what no `Config` knows.
    """
    path = find(name_or_path, _FOLDER, "configuration")
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a mapping with a section `data`.")
    if "datasets" in content and "data" not in content:
        raise ValueError(
            f"{path} is an experiment of several trainings: run it with "
            "`drifa compare`."
        )
    content.setdefault("name", path.stem)
    for key, value in (overrides or {}).items():
        _set(content, key, value)
    return parse_config(content, str(path))


def read_yaml(path: Path) -> Any:
    """Reads a YAML file, or raises a one-line `ValueError`."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not valid YAML: {reason}") from error


def parse_config(content: dict[str, Any], where: str = "the configuration") -> Config:
    """Turns a dict into a `Config`, or raises a one-line `ValueError`."""
    return validate(Config, content, where)


def validate(section: type[Section], content: Any, where: str):
    """Turns what a file says into a section, or raises a one-line `ValueError`."""
    try:
        return section.model_validate(content)
    except pydantic.ValidationError as error:
        raise ValueError(_one_line(error, where, section)) from error


def first_difference(one: Config, other: Config) -> tuple[str, Any, Any] | None:
    """The first dotted key at which two configurations differ, and its two values."""
    flat, others = (_flat(config.model_dump(mode="json")) for config in (one, other))
    for key in {**flat, **others}:
        if flat.get(key) != others.get(key):
            return key, flat.get(key), others.get(key)
    return None


def _flat(content, before=""):
    flat = {}
    for key, value in content.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{before}{key}.")
        else:
            flat[before + key] = value
    return flat


def _set(content, key, value):
    *sections, last = key.split(".")
    for section in sections:
        content = content.setdefault(section, {})
        if not isinstance(content, dict):
            raise ValueError(f"Cannot set {key!r}: {section!r} is not a section.")
    content[last] = value


def _one_line(error, where, section):
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] != "extra_forbidden":
        received = (
            "" if first["type"] == "missing" else f" Received: {first['input']!r}."
        )
        return f"{where}: {key}: {first['msg']}.{received}"
    known = _keys_beside(first["loc"], section)
    close = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{where}: unknown key {key!r}. {hint}Known here: {known}."


def _keys_beside(location, section):
    for part in location[:-1]:
        if part not in section.model_fields:  # a place in a list, or a name in a dict
            continue
        annotation = section.model_fields[part].annotation
        arguments = getattr(annotation, "__args__", ())
        section = next(
            kind
            for kind in (annotation, *arguments)
            if isinstance(kind, type) and issubclass(kind, Section)
        )
    return sorted(section.model_fields)
