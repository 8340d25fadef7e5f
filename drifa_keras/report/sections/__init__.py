"""The sections of a report: each a function of what the run folder holds."""

from drifa_keras.report.sections.data import data_section, leakage_section
from drifa_keras.report.sections.explain import explain_section
from drifa_keras.report.sections.overview import (
    card_section,
    setup_section,
    summary_section,
)
from drifa_keras.report.sections.results import partners_section, results_section
from drifa_keras.report.sections.robustness import robustness_section
from drifa_keras.report.sections.training import training_section
from drifa_keras.report.sections.uncertainty import uncertainty_section

SECTIONS = (
    summary_section,
    card_section,
    setup_section,
    data_section,
    leakage_section,
    training_section,
    results_section,
    partners_section,
    uncertainty_section,
    explain_section,
    robustness_section,
)

__all__ = ["SECTIONS"]
