"""A waterfall: from the difference that was claimed, part by part, to what is left of it."""

from __future__ import annotations

from matplotlib.axes import Axes

from harness.analysis.decomposition import Decomposition, Part, decompose
from harness.analysis.study_results import StudyResults
from harness.report import numbers
from harness.report.figures.canvas import (
    WIDTH,
    Drawing,
    broken,
    name_rows,
    new_axes,
    rows_height,
    text_width,
)

WHOLE, REST, TAKEN, ADDED = "#555555", "#009E73", "#D55E00", "#0072B2"
MIDDLE = 4.0
"""Inches for the bars, however long the names are."""


def decomposition(study: StudyResults) -> Drawing | None:
    """The whole, every part in turn, and what is left; None where a part is not known."""
    found = decompose(study)
    if found is None or any(p.difference is None for p in (found.whole, *found.parts)):
        return None
    bars = _bars(found)
    names = [broken(name) for name, *_ in bars]
    width = max(WIDTH, MIDDLE + max(text_width(name, size=10) for name in names))
    figure, axes = new_axes(width=width, height=rows_height(len(bars), each=0.5, around=1.0))
    axes.axvline(0.0, color="#222222", linewidth=1.0)
    for row, (_, part, start, end, colour) in enumerate(bars):
        _draw(axes, row, part, start, end, colour)
        if row:
            axes.plot([start, start], [row - 1.31, row + 0.31], color="#888888", linewidth=0.8)
    name_rows(axes, names)
    axes.margins(x=0.12)
    axes.set_xlabel("difference of final losses (nats)")
    return Drawing(figure=figure, caption=_caption(study, found))


Bar = tuple[str, Part, float, float, str]
"""Name, what it shows, where it begins and ends on the axis, colour."""


def _bars(found: Decomposition) -> list[Bar]:
    whole, rest = found.whole, found.rest
    total = whole.difference or 0.0
    if rest is None:
        bars, at = [], 0.0
        for part in found.parts:
            step = part.difference or 0.0
            bars.append((part.name, part, at, at + step, TAKEN if step > 0 else ADDED))
            at += step
        return [*bars, (f"in all: {whole.name}", whole, 0.0, total, WHOLE)]
    bars, at = [(f"claimed: {whole.name}", whole, 0.0, total, WHOLE)], total
    for part in found.parts:
        if part is rest:
            continue
        step = -(part.difference or 0.0)
        bars.append((f"without {part.name}", part, at, at + step, TAKEN if step > 0 else ADDED))
        at += step
    return [*bars, (f"left: {rest.name}", rest, 0.0, rest.difference or 0.0, REST)]


def _draw(axes: Axes, row: int, part: Part, start: float, end: float, colour: str) -> None:
    axes.barh(row, end - start, left=start, height=0.62, color=colour, alpha=0.85)
    if part.interval is not None:
        half = (part.interval.high - part.interval.low) / 2
        axes.plot([end - half, end + half], [row, row], color="#222222", linewidth=2.0)
    axes.annotate(
        numbers.difference(end - start, places=2),
        (1.0, row),
        xycoords=axes.get_yaxis_transform(),
        xytext=(8, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
        annotation_clip=False,
    )


def _caption(study: StudyResults, found: Decomposition) -> str:
    text = (
        "Mean differences over the seeds; dark lines are t intervals that hold at "
        f"{study.percent} for all bars together."
    )
    if found.rest is not None:
        text = (
            "The difference that was claimed, then each part taken away, down to the difference "
            f"between {found.rest.begin} and {found.rest.end}. " + text
        )
    if any(stage.leaked for part in found.parts for stage in (part.begin, part.end)):
        text += " A stage @leaked is read on windows of the training text."
    return text
