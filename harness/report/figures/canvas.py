"""Empty figures in the one style, a look for each variant, and figures as bytes.

Matplotlib's object-oriented interface only: no pyplot, no window, no global figure.
"""

from __future__ import annotations

import io
import re
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from harness.analysis.study_results import StudyResults
from harness.report.figures.theme import themed

STYLE_FILE = Path(__file__).parents[1] / "style.mplstyle"
WIDTH = 6.4
"""Inches. At the page's 96 pixels an inch the text is then the size of the text around it."""

BASELINE_COLOUR = "#222222"
MUTED_COLOUR = "#9a9a9a"
MARKERS = ("s", "^", "D", "v", "P", "X")
NAME_CHARACTERS = 34
"""Longer names are broken."""
SHOWN_SPANS = 6.0
"""What lies further out than so many times the middle value is drawn at the border."""
HIGHLIGHTED = 5
"""Of more variants than there are colours, so many are drawn in colour: the best ones."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure and what the reader should know to read it."""

    figure: Figure
    caption: str


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """How a variant appears in every figure: colour and marker tell it apart together."""

    colour: str
    marker: str
    muted: bool = False


@contextmanager
def style() -> Iterator[None]:
    """Everything between drawing and saving happens inside."""
    with mpl.rc_context(fname=STYLE_FILE):
        yield


def appearances(study: StudyResults) -> dict[str, Appearance]:
    """How each variant of the study looks, see `looks`."""
    return looks(study.challengers, baseline=study.baseline, ranked=study.ranked())


def looks(
    challengers: Sequence[str], *, baseline: str, ranked: Sequence[str]
) -> dict[str, Appearance]:
    """The baseline is black; the others take the palette in the order of the file.

    With more variants than colours only the best ones get a colour and the others are grey: twenty
    hues are told apart by nobody.

    Args:
        ranked: all names, the best first.
    """
    colours = [f"#{c.lstrip('#')}" for c in mpl.rcParams["axes.prop_cycle"].by_key()["color"]]
    in_colour = tuple(challengers)
    if len(in_colour) > len(colours):
        best = [variant for variant in ranked if variant != baseline][:HIGHLIGHTED]
        in_colour = tuple(variant for variant in challengers if variant in best)
    muted = Appearance(colour=MUTED_COLOUR, marker="o", muted=True)
    assigned = dict.fromkeys(challengers, muted)
    for variant, colour, marker in zip(in_colour, colours, MARKERS, strict=False):
        assigned[variant] = Appearance(colour=colour, marker=marker)
    return {baseline: Appearance(colour=BASELINE_COLOUR, marker="o"), **assigned}


def new_axes(*, height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def rows_height(rows: int, *, each: float = 0.34, around: float = 1.1) -> float:
    """Inches for a figure with one row for each variant."""
    return around + each * max(rows, 2)


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Names on the left, the first one on top."""
    axes.set_yticks(range(len(names)), [broken(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


def broken(name: str, characters: int = NAME_CHARACTERS) -> str:
    """A long name on several lines, broken behind its hyphens and underscores."""
    lines = [""]
    for part in re.findall(r"[^-_+]*[-_+]?", name.replace("\n", "")):
        if lines[-1] and len(lines[-1]) + len(part) > characters:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def highest_shown(values: Sequence[float]) -> float | None:
    """The highest loss that is drawn at its place: one bad run must not flatten all others."""
    if not values:
        return None
    lowest = min(values)
    limit = lowest + SHOWN_SPANS * (statistics.median(values) - lowest)
    return max(value for value in values if value <= limit)


def text_width(text: str, *, size: float) -> float:
    """Inches of the longest line, at `size` points."""
    lines = [line for line in text.split("\n") if line.strip()]
    return (
        max((TextPath((0, 0), line, size=size).get_extents().x1 for line in lines), default=0) / 72
    )


def lay_out(figure: Figure) -> None:
    """Places everything once; both ways of saving would do it again."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    # Straight to the canvas: `savefig` would draw everything twice. Without the version of
    # matplotlib in it, an unchanged figure is an unchanged file.
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def svg(figure: Figure) -> bytes:
    """For the page: its colours follow the reader's setting."""
    buffer = io.BytesIO()
    canvas = FigureCanvasSVG(figure)
    canvas.print_svg(buffer, metadata={"Date": None, "Creator": None})  # type: ignore[no-untyped-call]
    return themed(buffer.getvalue())


__all__ = [
    "SHOWN_SPANS",
    "Appearance",
    "Drawing",
    "appearances",
    "broken",
    "highest_shown",
    "lay_out",
    "looks",
    "name_rows",
    "new_axes",
    "png",
    "rows_height",
    "style",
    "svg",
    "text_width",
]
