"""The report of a study: tables, figures and one page, made from the study's files only."""

from __future__ import annotations

from pathlib import Path

from harness.report.rows import analyse_study, results_rows
from harness.report.terminal import render_terminal
from harness.results import StudyFolder


def build(folder: StudyFolder) -> Path:
    """Analyses the study and writes report/index.html, report.md, results.csv and the figures.

    The same files give the same report, byte for byte. Returns the path of the page.

    Raises:
        UserError: no plan in the folder, or one that was changed by hand.
    """
    from harness.report.output import write

    return write(folder)


__all__ = ["analyse_study", "build", "render_terminal", "results_rows"]
