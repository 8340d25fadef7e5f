"""Figures, and the report of a run."""

from drifa_keras.report import figures
from drifa_keras.report.html import write_report
from drifa_keras.report.style import to_png

__all__ = ["figures", "to_png", "write_report"]
