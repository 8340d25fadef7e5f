"""Training: the paper's recipe, and whole runs from a configuration."""

from drifa_keras.training.adversarial import adversarial_training
from drifa_keras.training.distribution import distributed, synchronize
from drifa_keras.training.ensemble import train_ensemble
from drifa_keras.training.random_batch import random_batch
from drifa_keras.training.recipe import compile_model, fit, rematerialized
from drifa_keras.training.recovery import epochs_done
from drifa_keras.training.train import Prepared, prepare, train

__all__ = [
    "Prepared",
    "adversarial_training",
    "compile_model",
    "distributed",
    "epochs_done",
    "fit",
    "prepare",
    "random_batch",
    "rematerialized",
    "synchronize",
    "train",
    "train_ensemble",
]
