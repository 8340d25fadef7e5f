"""How robust a classifier is to changes that someone made on purpose."""

from drifa_keras.robustness.apgd import APGD
from drifa_keras.robustness.attack import Attack
from drifa_keras.robustness.evaluate import FULL, LIGHT, evaluate
from drifa_keras.robustness.gradient_attacks import BIM, FGSM, MIFGSM, PGD
from drifa_keras.robustness.random_noise import RandomNoise
from drifa_keras.robustness.square import Square

__all__ = [
    "APGD",
    "BIM",
    "FGSM",
    "FULL",
    "LIGHT",
    "MIFGSM",
    "PGD",
    "Attack",
    "RandomNoise",
    "Square",
    "evaluate",
]
