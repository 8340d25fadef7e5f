"""Figures, and the report of a run."""

from drifa_keras.report import figures
from drifa_keras.report.html import write_report
from drifa_keras.report.style import to_png, to_svg

__all__ = ["figures", "to_png", "to_svg", "write_report"]
