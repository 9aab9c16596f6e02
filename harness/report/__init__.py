"""The report of a study: tables, figures and one page, made from the study's files only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.report.rows import analyse_study, results_rows
from harness.report.terminal import render_terminal
from harness.results import StudyFolder


def build(folder: StudyFolder, *, horizons: Sequence[StudyFolder] = ()) -> Path:
    """Analyses the study and writes report/index.html, report.md, results.csv and the figures.

    The same files give the same report, byte for byte. Returns the path of the page.

    Args:
        horizons: three or more studies of the same baseline at other lengths: with them the page
            tells the speed-up in data without the bias of crossings inside one run.

    Raises:
        UserError: no plan in the folder, or one that was changed by hand, or `horizons` that are
            not lengths of one baseline (`harness.report.horizons`).
    """
    from harness.report.output import write

    return write(folder, horizons=horizons)


__all__ = ["analyse_study", "build", "render_terminal", "results_rows"]
