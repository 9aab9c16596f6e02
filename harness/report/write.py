"""Writes the report folder: index.html, report.md, the figures, results.csv and results.tex."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.analysis.horizon_speedup import horizon_speedups
from harness.analysis.study_results import StudyResults
from harness.report.elements import FigureImage
from harness.report.figures import FIGURES, draw_all
from harness.report.html import write_html
from harness.report.latex import results_tex
from harness.report.markdown import write_markdown
from harness.report.results_csv import write_results_csv
from harness.report.sections import Material
from harness.runs.files import write_bytes, write_json, write_text
from harness.runs.folder import StudyFolder
from harness.runs.snapshot import load_snapshot

Draw = Callable[[StudyResults], Mapping[str, FigureImage]]


def write_report(results: StudyResults, *, horizons: Sequence[StudyFolder] = ()) -> Path:
    """Writes everything below `report/` of the study's folder. Returns the path of the page.

    The same files give the same report, byte for byte.

    Args:
        results: as `harness.analysis.study_analysis.analyse_study` gives them.
        horizons: studies of the same baseline at other lengths, which join the study's own: from
            four lengths on the page tells the speed-up in data.

    Raises:
        UserError: `horizons` that are not lengths of one baseline
            (`harness.analysis.horizon_speedup`).
    """
    material, target = gather(results, horizons=horizons), results.folder.report_folder
    write_results_csv(results)
    if results.confirmation:
        write_text(target / "results.tex", results_tex(results))
    for name in FIGURES:
        image = material.figures.get(name)
        if image is None:
            # A figure of an earlier report that the files no longer support.
            (target / f"{name}.png").unlink(missing_ok=True)
        else:
            write_bytes(target / f"{name}.png", image.png)
    if material.importances:
        found = {item.variant: item.to_json() for item in material.importances}
        write_json(target / "importance.json", found)
    write_text(target / "report.md", write_markdown(material))
    write_text(target / "index.html", write_html(material))
    return target / "index.html"


def gather(
    results: StudyResults, *, horizons: Sequence[StudyFolder] = (), draw: Draw = draw_all
) -> Material:
    """Everything that the sections show, drawn."""
    others = [load_snapshot(folder) for folder in horizons]
    return Material(
        study=results,
        figures=draw(results),
        horizons=horizon_speedups(results, others),
    )
