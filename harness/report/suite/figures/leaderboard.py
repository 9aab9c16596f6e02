"""The leaderboard in one picture: three estimates of every contestant, side by side."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harness.analysis.suite.results import Estimate, Standing, SuiteAnalysis
from harness.report.figures.canvas import (
    WIDTH,
    Drawing,
    broken,
    name_rows,
    rows_height,
    text_width,
)
from harness.report.suite.material import appearances

Read = Callable[[Standing], Estimate | None]
PANELS: tuple[tuple[str, Read, float | None], ...] = (
    ("area under the profile", lambda row: row.score, None),
    ("speed-up, IQM over runs", lambda row: row.iqm_speedup, 1.0),
    ("loss − baseline, IQM", lambda row: row.iqm_difference, 0.0),
    ("probability of improvement", lambda row: row.improvement, 0.5),
    ("average rank", lambda row: row.mean_rank, None),
)
"""Title, value, and where no difference is. The first three that anybody has are drawn."""
SHOWN = 3
PANEL_WIDTH = 2.1
"""Inches that the longest title needs."""


def leaderboard(analysis: SuiteAnalysis) -> Drawing | None:
    """Estimate and bootstrap interval of every contestant, in the order of the leaderboard."""
    rows = analysis.leaderboard
    drawn = [panel for panel in PANELS if any(panel[1](row) for row in rows)][:SHOWN]
    if not drawn:
        return None
    look = appearances(analysis)
    names = [f"{row.place}  {broken(row.variant)}" for row in rows]
    left = max(text_width(name, size=10) for name in names)
    width = max(WIDTH, left + 0.4 + PANEL_WIDTH * len(drawn))
    figure = Figure(figsize=(width, rows_height(len(rows), each=0.28, around=0.75)))
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(drawn), sharey=True, squeeze=False)
    for axes, (title, read, neutral) in zip(panels.flat, drawn, strict=True):
        if neutral is not None:
            axes.axvline(neutral, color="#222222", linewidth=0.9)
        for number, row in enumerate(rows):
            _draw(axes, number, read(row), look[row.variant].colour)
        axes.set_title(title, fontsize=9)
        axes.locator_params(axis="x", nbins=4)
        name_rows(axes, names)
    return Drawing(
        figure=figure,
        caption="Place and name; estimates over the tasks with their bootstrap intervals (seeds "
        "are drawn again within each task). They speak of these tasks only, and the intervals of "
        "two contestants are no test of their difference: the verdicts are. An arrow is an end "
        "that runs which never arrived leave open. A contestant without a mark has no such value, "
        "because too many of its runs never arrived or were lost. The line is no difference from "
        "the baseline.",
    )


def _draw(axes: Axes, row: int, found: Estimate | None, colour: str) -> None:
    if found is None:
        return
    low = found.value if found.low is None else found.low
    high = found.value if found.high is None else found.high
    axes.plot([low, high], [row, row], color=colour, linewidth=2.4, solid_capstyle="butt")
    for edge, end, other in ((0.0, found.low, found.high), (1.0, found.high, found.low)):
        if end is None and (other is not None or found.unbounded):
            axes.annotate(
                "",
                (edge, row),
                xytext=(found.value, row),
                xycoords=axes.get_yaxis_transform(),
                textcoords="data",
                arrowprops={"arrowstyle": "->", "color": colour, "shrinkA": 0, "shrinkB": 0},
            )
    axes.plot(found.value, row, "D", color=colour, markersize=6, markeredgecolor="white")
