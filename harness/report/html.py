"""The report as one HTML page that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from harness.report.elements import Element, FigureImage, Section
from harness.report.numbers import real_minus
from harness.report.sections import Material
from harness.report.verdict_words import SIGNS

TEMPLATES = Path(__file__).parent


def write_html(material: Material) -> str:
    return render_page(material.study.name, material.sections, kind="report")


def render_page(name: str, sections: Sequence[Section], *, kind: str) -> str:
    """
    Args:
        kind: what the page calls itself above its name.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["data_uri"] = _data_uri
    environment.filters["real_minus"] = real_minus
    environment.filters["in_rows"] = in_rows
    return environment.get_template("page.html").render(
        name=name,
        kind=kind,
        sections=sections,
        style=(TEMPLATES / "page.css").read_text(encoding="utf-8"),
        signs=SIGNS,
    )


def in_rows(blocks: Iterable[Element]) -> Iterator[tuple[bool, list[Element]]]:
    """Blocks in order, figures that follow each other together: they share the width."""
    for figures, found in groupby(blocks, key=lambda block: isinstance(block, FigureImage)):
        yield figures, list(found)


def _data_uri(image: FigureImage) -> str:
    """The figure as an address. Inside <img> an SVG can neither run scripts nor load anything."""
    return "data:image/svg+xml;base64," + base64.b64encode(image.svg).decode("ascii")
