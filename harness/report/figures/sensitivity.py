"""How much the learning rates matter: loss by rate, edges of what was tried, divergence."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, StrMethodFormatter

from harness.analysis.sensitivity import SensitivityGroup, TriedSettings, best, sensitivity_groups
from harness.analysis.stats.arrays import MINIMUM_SEEDS
from harness.analysis.stats.intervals import mean_interval
from harness.analysis.study_results import StudyResults
from harness.report.figures.canvas import (
    BASELINE_COLOUR,
    MARKERS,
    MUTED_COLOUR,
    WIDTH,
    Drawing,
    highest_shown,
)
from harness.study.dotted import write_value

POINT_COLOUR, LOST_COLOUR = "#0072B2", "#D55E00"
FEWEST_VALUES = 3
"""Two values of a rate say nothing about the shape between them."""
WIDE_RATIO = 3.0
"""Rates that span more than this factor stand on a logarithmic axis."""
ROOM_FOR_THREES = 100.0
"""Over more than two decades the labels of 0.0003 and 0.001 would touch."""
FEW_TICKS = 5
"""Tried values that have room as labels of an axis."""


def sensitivity(study: StudyResults) -> Drawing | None:
    """One panel a learning rate: final loss by its value, the other settings equal or searched."""
    panels = [(group, name) for group in sensitivity_groups(study) for name in _rates(group)]
    if not panels:
        return None
    columns = 2 if len(panels) <= 4 else 3
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(WIDTH, 0.2 + 2.3 * rows))
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes, (group, name) in zip(grid.flat, panels, strict=False):
        _draw_panel(axes, group, name)
    searched = any(group.searched for group, _ in panels)
    figure.supylabel("final validation loss (nats)", fontsize=9.5)
    return Drawing(figure=figure, caption=_caption(searched=searched))


def _caption(*, searched: bool) -> str:
    if searched:
        what = (
            "One dot a configuration of the search; a ring is the chosen one. Lines join those "
            "that differ in this rate only, dashed lines are the borders of the space."
        )
    else:
        what = (
            "Lines join variants that differ in this rate only; a single line has its 95 % t "
            "intervals over seeds. A ring marks the best of each line where "
            "it is the smallest or the largest rate that was tried: the optimum may lie beyond."
        )
    return (
        f"{what} A cross at the top is a configuration that diverged, a bar one that was stopped "
        "or failed, a triangle one whose loss lies above the picture."
    )


def _rates(group: SensitivityGroup) -> Iterator[str]:
    """Learning rates of which enough values were tried."""
    for name, values in group.numeric().items():
        is_rate = name == "lr" or name.endswith("_lr")
        if is_rate and len(values) >= FEWEST_VALUES and (group.searched or group.lines(name)):
            yield name


def _draw_panel(axes: Axes, group: SensitivityGroup, name: str) -> None:
    lines = group.lines(name)
    drawn = list(group.settings) if group.searched else [s for line in lines for s in line]
    top = highest_shown([s.score for s in drawn if s.score is not None])
    _draw_lines(axes, group, name)
    if group.searched:
        _draw_search(axes, group, name)
    for setting in drawn:
        marker = _marker_at_top(setting, top)
        if marker is not None:
            axes.plot(
                float(setting.values[name]),
                1.0,
                marker=marker,
                color=POINT_COLOUR if marker == "^" else LOST_COLOUR,
                markersize=6,
                markeredgewidth=1.6,
                transform=axes.get_xaxis_transform(),
                clip_on=False,
                zorder=3,
            )
    _scale(axes, sorted({float(s.values[name]) for s in drawn}))
    if top is not None and (group.searched or len(lines) > 1):
        low = min(s.score for s in drawn if s.score is not None)
        pad = 0.08 * (top - low) or 0.01
        axes.set_ylim(low - pad, top + pad)
    axes.set_title(f"{group.title}: {name}", fontsize=9, pad=9)
    axes.tick_params(labelsize=8)


def _scale(axes: Axes, values: Sequence[float]) -> None:
    """Logarithmic where the values span far; the values themselves as ticks while they are few."""
    wide = values[0] > 0.0 and values[-1] / values[0] > WIDE_RATIO
    if wide:
        axes.set_xscale("log")
    if len(values) <= FEW_TICKS:
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.set_xticks([], minor=True)
    elif wide:
        between = (1.0, 3.0) if values[-1] / values[0] < ROOM_FOR_THREES else (1.0,)
        axes.xaxis.set_major_locator(LogLocator(subs=between))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.set_xticks([], minor=True)


def _marker_at_top(setting: TriedSettings, top: float | None) -> str | None:
    if setting.diverged:
        return "x"
    if setting.score is None:
        return "|"
    return "^" if top is not None and setting.score > top else None


def _draw_lines(axes: Axes, group: SensitivityGroup, name: str) -> None:
    """One line for each combination of the other settings; a ring where its best is at an edge."""
    lines = group.lines(name)
    others = [other for other in group.varied() if other != name]
    for line, marker in zip(lines, itertools.cycle(MARKERS)):
        points = [(float(s.values[name]), s.score) for s in line if s.score is not None]
        label = ", ".join(f"{other} {write_value(line[0].values.get(other))}" for other in others)
        drawn = axes.plot([x for x, _ in points], [y for _, y in points], marker, label=label)
        drawn[0].set_linestyle("-")
        if len(lines) == 1:
            _draw_intervals(axes, line, name)
        lowest, tried = best(line), [float(s.values[name]) for s in line]
        at_edge = lowest is not None and float(lowest.values[name]) in (min(tried), max(tried))
        if lowest is not None and at_edge and not group.searched:
            _ring(axes, lowest, name)
    if 1 < len(lines) <= len(MARKERS):
        axes.legend(fontsize=7)


def _draw_intervals(axes: Axes, line: Sequence[TriedSettings], name: str) -> None:
    for setting in line:
        enough = not setting.lost and len(setting.losses) >= MINIMUM_SEEDS
        interval = mean_interval(setting.losses) if enough else None
        if interval is not None:
            x = float(setting.values[name])
            axes.plot([x, x], [interval.low, interval.high], color=POINT_COLOUR, linewidth=1.0)


def _draw_search(axes: Axes, group: SensitivityGroup, name: str) -> None:
    scored = [s for s in group.settings if s.score is not None]
    axes.plot(
        [float(s.values[name]) for s in scored],
        [float(s.score or 0.0) for s in scored],
        "o",
        color=POINT_COLOUR,
        alpha=0.75,
    )
    for border in group.borders.get(name, ()):
        axes.axvline(border, color=MUTED_COLOUR, linestyle="--", linewidth=1.0)
    for setting in scored:
        if setting.chosen:
            _ring(axes, setting, name)


def _ring(axes: Axes, setting: TriedSettings, name: str) -> None:
    axes.plot(
        float(setting.values[name]),
        float(setting.score or 0.0),
        "o",
        markersize=11,
        markerfacecolor="none",
        markeredgecolor=BASELINE_COLOUR,
        markeredgewidth=1.5,
    )
