"""Configurations: their schema, and the named ones that ship with the package."""

from drifa_keras.configs.experiment import (
    DatasetEntry,
    Experiment,
    ModelEntry,
    load_experiment,
    named_experiments,
)
from drifa_keras.configs.schema import (
    AugmentConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    SourceConfig,
    TrainingConfig,
    first_difference,
    load_config,
    named_configs,
    parse_config,
    read_yaml,
)

__all__ = [
    "AugmentConfig",
    "Config",
    "DataConfig",
    "DatasetEntry",
    "EvaluationConfig",
    "Experiment",
    "ModelConfig",
    "ModelEntry",
    "SourceConfig",
    "TrainingConfig",
    "first_difference",
    "load_config",
    "load_experiment",
    "named_configs",
    "named_experiments",
    "parse_config",
    "read_yaml",
]
