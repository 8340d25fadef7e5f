"""Deployment: a network as a file for runtimes that know nothing of Keras."""

from drifa_keras.deployment.export import FORMATS, default_name, export
from drifa_keras.deployment.runtimes import load_exported

__all__ = ["FORMATS", "default_name", "export", "load_exported"]
