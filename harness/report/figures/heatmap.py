"""Final loss over two hyperparameters."""

from __future__ import annotations

import math

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harness.analysis.sensitivity import SensitivityGroup, best, sensitivity_groups
from harness.analysis.study_results import StudyResults
from harness.report.figures.canvas import BASELINE_COLOUR, MUTED_COLOUR, WIDTH, Drawing
from harness.report.figures.sensitivity import LOST_COLOUR, WIDE_RATIO
from harness.report.figures.theme import DARK_ON_DATA, LIGHT_ON_DATA

FEWEST_POINTS = 5
"""Points of a search that are worth a map."""
WRITTEN_CELLS = 40
"""Cells of a grid that have room for their number."""


def heatmap(study: StudyResults) -> Drawing | None:
    """A grid of settings as coloured cells; a search that is no grid as coloured points."""
    drawn = [
        (f, axes) for f in sensitivity_groups(study) if (axes := f.axes() or _widest(f)) is not None
    ]
    if not drawn:
        return None
    columns = min(2, len(drawn))
    rows = math.ceil(len(drawn) / columns)
    figure = Figure(figsize=(WIDTH, 0.2 + 2.9 * rows))
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(drawn) :]:
        axes.set_visible(False)
    for axes, (group, (x, y)) in zip(grid.flat, drawn, strict=False):
        if group.axes() is None:
            _draw_points(axes, group, x, y)
        else:
            _draw_cells(axes, group, x, y)
        axes.set_title(group.title, fontsize=9)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.tick_params(labelsize=8)
    return Drawing(
        figure=figure,
        caption="Mean final validation loss in nats, dark is low; the best is ringed or framed. "
        "Where several settings fall together the best of them counts. A cross lost a seed, an "
        "empty cell was not tried.",
    )


def _widest(group: SensitivityGroup) -> tuple[str, str] | None:
    """For a search: the two settings with the most distinct values."""
    numeric = group.numeric()
    if not group.searched or len(numeric) < 2 or len(group.settings) < FEWEST_POINTS:
        return None
    one, other = sorted(numeric, key=lambda name: -len(numeric[name]))[:2]
    return one, other


def _draw_cells(axes: Axes, group: SensitivityGroup, x: str, y: str) -> None:
    columns, rows = group.numeric()[x], group.numeric()[y]
    cells = group.cells(x, y)
    values = np.full((len(rows), len(columns)), np.nan)
    lowest = best(tuple(cells.values()))
    for (across, up), setting in cells.items():
        column, row = columns.index(across), rows.index(up)
        if setting.score is None:
            axes.plot(column, row, "x", color=LOST_COLOUR, markersize=8, markeredgewidth=1.8)
            continue
        values[row, column] = setting.score
        if setting is lowest:
            frame = mpl.patches.Rectangle(
                (column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="#D55E00", linewidth=2.2
            )
            axes.add_patch(frame)
    mesh = axes.imshow(np.ma.masked_invalid(values), aspect="auto", origin="lower")
    if values.size <= WRITTEN_CELLS:
        middle = np.nanmean([np.nanmin(values), np.nanmax(values)]) if lowest else 0.0
        for (row, column), value in np.ndenumerate(values):
            if math.isfinite(value):
                colour = LIGHT_ON_DATA if value < middle else DARK_ON_DATA
                text = f"{value:.3f}"
                axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color=colour)
    else:
        axes.figure.colorbar(mesh, ax=axes)
    axes.set_xticks(range(len(columns)), [f"{value:g}" for value in columns])
    axes.set_yticks(range(len(rows)), [f"{value:g}" for value in rows])
    axes.grid(visible=False)


def _draw_points(axes: Axes, group: SensitivityGroup, x: str, y: str) -> None:
    scored = [s for s in group.settings if s.score is not None]
    lost = [s for s in group.settings if s.score is None]
    scores = [float(s.score or 0.0) for s in scored]
    # Half of the colours for the better half: one bad run must not make all others alike.
    limit = None if not scores else 2 * float(np.median(scores)) - min(scores)
    mesh = axes.scatter(
        [float(s.values[x]) for s in scored],
        [float(s.values[y]) for s in scored],
        c=scores,
        vmax=limit if limit is not None and limit > min(scores) else None,
        s=38,
        edgecolors=MUTED_COLOUR,
        linewidths=0.7,
    )
    axes.plot(
        [float(s.values[x]) for s in lost],
        [float(s.values[y]) for s in lost],
        "x",
        color=LOST_COLOUR,
        markersize=6,
    )
    lowest = best(scored)
    if lowest is not None:
        axes.plot(
            float(lowest.values[x]),
            float(lowest.values[y]),
            "o",
            markersize=11,
            markerfacecolor="none",
            markeredgecolor=BASELINE_COLOUR,
            markeredgewidth=1.5,
        )
    for name, set_scale in ((x, axes.set_xscale), (y, axes.set_yscale)):
        values = group.numeric()[name]
        if values[0] > 0.0 and values[-1] / values[0] > WIDE_RATIO:
            set_scale("log")
    if scored:
        bar = axes.figure.colorbar(mesh, ax=axes, extend="max")
        bar.ax.tick_params(labelsize=7)
