"""Writes the report folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.errors import UserError
from harness.report import page
from harness.report.blocks import FigureImage
from harness.report.figures import FIGURES, draw_all
from harness.report.horizons import horizon_speedups
from harness.report.rows import analyse_study, write_results_csv
from harness.report.sections import Material
from harness.report.view import StudyView, load_view
from harness.results import StudyFolder, write_text

Draw = Callable[[StudyView], Mapping[str, FigureImage]]


def gather(
    folder: StudyFolder, *, horizons: Sequence[StudyFolder] = (), draw: Draw = draw_all
) -> Material:
    """Analyses the study and reads, and draws, what the report shows."""
    error = _analyse(folder)
    view = load_view(folder)
    others = [load_view(other) for other in horizons]
    return Material(
        view=view,
        figures=draw(view),
        analysis_error=error,
        horizons=horizon_speedups(view, others) if others else (),
    )


def write(folder: StudyFolder, *, horizons: Sequence[StudyFolder] = ()) -> Path:
    """See `harness.report.build`."""
    material, target = gather(folder, horizons=horizons), folder.report_folder
    target.mkdir(parents=True, exist_ok=True)
    write_results_csv(material.view)
    for name in FIGURES:
        image = material.figures.get(name)
        if image is None:
            # A figure of an earlier report that the files no longer support.
            (target / f"{name}.png").unlink(missing_ok=True)
        else:
            _write_bytes(target / f"{name}.png", image.png)
    write_text(target / "report.md", page.markdown(material))
    write_text(target / "index.html", page.html(material))
    return target / "index.html"


def _analyse(folder: StudyFolder) -> str | None:
    """Why the results cannot be analysed; the page says it, and is built all the same."""
    try:
        analyse_study(folder)
    except UserError as error:
        folder.analysis_path.unlink(missing_ok=True)
        return str(error)
    return None


def _write_bytes(path: Path, content: bytes) -> None:
    """Writes the file whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
