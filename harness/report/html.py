"""The report as one HTML page that needs nothing else."""

from __future__ import annotations

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from harness.report.elements import FigureImage, VerdictWord
from harness.report.sections import Material

TEMPLATES = Path(__file__).parent
VERDICT_SIGNS: dict[VerdictWord, str] = {
    "better": "▼",
    "worse": "▲",
    "equivalent": "=",
    "inconclusive": "?",
    "below": "▼",
    "not shown": "?",
}
"""Down is better: the loss is lower. A sign, because colour alone does not reach everyone."""


def write_html(material: Material) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["data_uri"] = _data_uri
    return environment.get_template("page.html").render(
        study=material.study,
        sections=material.sections,
        style=(TEMPLATES / "page.css").read_text(encoding="utf-8"),
        signs=VERDICT_SIGNS,
    )


def _data_uri(image: FigureImage) -> str:
    """The figure as an address. Inside <img> an SVG can neither run scripts nor load anything."""
    return "data:image/svg+xml;base64," + base64.b64encode(image.svg).decode("ascii")
