"""Writes the report folder of a suite: index.html, report.md, the figures, CSV and LaTeX."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.analysis.suite.suite_analysis import SuiteResults
from harness.report.html import render_page
from harness.report.markdown import render_markdown
from harness.report.suite.figures import FIGURES, draw_all
from harness.report.suite.files import leaderboard_csv, leaderboard_tex, results_csv
from harness.report.suite.material import SuiteMaterial
from harness.report.suite.sections import sections
from harness.runs.files import write_bytes, write_text
from harness.runs.suite_plan import suite_amendments


def write_suite_report(results: SuiteResults) -> Path:
    """Writes everything below `report/` of the suite's folder. Returns the path of the page.

    The reports of the tasks are those of their studies, which `harness.report.write` makes.

    Args:
        results: as `harness.analysis.suite.suite_analysis.analyse_suite` gives them.
    """
    return write_pages(gather(results), results.folder.report_folder)


def gather(results: SuiteResults) -> SuiteMaterial:
    """What the sections show, without the figures."""
    assert results.analysis is not None, "a suite is analysed before it is reported"
    return SuiteMaterial(
        analysis=results.analysis,
        question=results.plan.question,
        studies=results.studies,
        amendments=suite_amendments(results.folder),
    )


def write_pages(material: SuiteMaterial, target: Path) -> Path:
    """The report of any analysis, such as that of a table, into a folder.

    The same material gives the same files, byte for byte.
    """
    analysis = material.analysis
    drawn = replace(material, figures=draw_all(analysis))
    for name in FIGURES:
        image = drawn.figures.get(name)
        if image is None:
            # A figure of an earlier report that the results no longer support.
            (target / f"{name}.png").unlink(missing_ok=True)
        else:
            write_bytes(target / f"{name}.png", image.png)
    write_text(target / "leaderboard.csv", leaderboard_csv(analysis))
    write_text(target / "results.csv", results_csv(analysis))
    write_text(target / "leaderboard.tex", leaderboard_tex(analysis))
    shown = sections(drawn)
    write_text(target / "report.md", render_markdown(analysis.name, shown))
    write_text(target / "index.html", render_page(analysis.name, shown, kind="suite"))
    return target / "index.html"
