"""Speed-ups and tuned settings against the size of the model and the length of the training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)

from harness.analysis.suite.results import (
    Axis,
    Extrapolation,
    ScalingFit,
    ScalingPoint,
    SuiteAnalysis,
)
from harness.report.figures.canvas import MARKERS, WIDTH, Appearance, Drawing, broken
from harness.report.suite.material import appearances, ranked
from harness.report.suite.values import short

COLUMNS = 3
MOST_PANELS = 12
MOST_TICKS = 6
WIDE = 6.0
"""From this ratio of the highest to the lowest value on, ticks are 1, 2, 5, 10."""
BEYOND = "#e4e4e4"
WORDS: dict[Axis, str] = {"size": "active parameters", "tokens": "tokens of a run"}


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One contestant, or one setting of it, over the tasks."""

    title: str
    points: Sequence[ScalingPoint]
    fit: ScalingFit | None
    why_not: str | None
    look: Appearance
    open_tasks: frozenset[str] = frozenset()


def speedup_by_size(analysis: SuiteAnalysis) -> Drawing | None:
    return _speedups(analysis, "size")


def speedup_by_length(analysis: SuiteAnalysis) -> Drawing | None:
    return _speedups(analysis, "tokens")


def hyperparameters(analysis: SuiteAnalysis) -> Drawing | None:
    """Chosen values over sizes, or over lengths where all models are of one size."""
    look = appearances(analysis)
    panels = [
        Panel(
            title=f"{item.variant}: {item.setting}",
            points=item.points,
            fit=item.fit,
            why_not=item.why_not,
            look=look[item.variant],
            open_tasks=frozenset(item.not_tuned),
        )
        for item in analysis.hyperparameters
        if item.points
    ]
    axis: Axis = "size" if _varies(panels, "size") else "tokens"
    if not panels or not _varies(panels, axis):
        return None
    left_out = len(panels) - MOST_PANELS
    text = (
        "The value that the search of each task chose. Open: the best lay at the edge of its "
        "space, so that the optimum may lie beyond. "
    )
    if left_out > 0:
        text += f"{left_out} more settings are in the table only. "
    return _draw(panels[:MOST_PANELS], axis, neutral=None, ylabel="chosen value", about=text)


def _speedups(analysis: SuiteAnalysis, axis: Axis) -> Drawing | None:
    look, found = appearances(analysis), {item.variant: item for item in analysis.speedups}
    panels = [
        Panel(
            title=name,
            points=found[name].points,
            fit=found[name].fit,
            why_not=found[name].why_not,
            look=look[name],
        )
        for name in ranked(analysis)
        if name in found and found[name].points
    ]
    fits = [panel.fit for panel in panels if panel.fit is not None]
    if not panels or not _varies(panels, axis):
        return None
    if fits and not any(axis in fit.curve for fit in fits):
        return None  # sizes and lengths grew together: one picture shows both
    about = (
        f"How many times less the contestant needs than {analysis.baseline}; on the line it needs "
        "the same. Bars are the intervals of single tasks. "
    )
    return _draw(panels[:MOST_PANELS], axis, neutral=1.0, ylabel="speed-up", about=about)


def _of(point: ScalingPoint, axis: Axis) -> float | None:
    return point.active_parameters if axis == "size" else point.tokens


def _varies(panels: Sequence[Panel], axis: Axis) -> bool:
    return len({x for p in panels for point in p.points if (x := _of(point, axis))}) > 1


def _draw(
    panels: Sequence[Panel], axis: Axis, *, neutral: float | None, ylabel: str, about: str
) -> Drawing:
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(max(WIDTH, 2.75 * columns), 0.5 + 2.15 * rows))
    FigureCanvasAgg(figure)
    # One scale for all speed-ups; settings differ by orders of magnitude.
    grid = figure.subplots(
        rows, columns, squeeze=False, sharex=True, sharey="all" if neutral is not None else "none"
    )
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    other: Axis = "tokens" if axis == "size" else "size"
    marks = _marks(panels, other)
    for axes, panel in zip(grid.flat, panels, strict=False):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.margins(y=0.18)
        if neutral is not None:
            axes.axhline(neutral, color="#222222", linewidth=0.9)
        _points(axes, panel, axis, other, marks)
        if panel.fit is not None and axis in panel.fit.curve:
            _fit(axes, panel.fit, axis, panel.look.colour)
        elif panel.why_not:
            _say(axes, f"no fit: {panel.why_not}")
        axes.set_title(broken(panel.title, 26), fontsize=9)
        axes.tick_params(labelsize=8)
        _ticks(axes, _places(panels, axis), speedup=neutral is not None)
    for number in range(max(0, len(panels) - columns), len(panels)):
        grid.flat[number].tick_params(labelbottom=True)
    for axes in grid[:, 0]:
        axes.set_ylabel(ylabel, fontsize=9)
    figure.supxlabel(WORDS[axis], fontsize=9.5)
    if len(marks) > 1:
        _legend(figure, marks, other)
    return Drawing(figure=figure, caption=about + _about_fit(panels, axis, several=len(marks) > 1))


def _marks(panels: Sequence[Panel], other: Axis) -> dict[float | None, str]:
    """A marker for every value of the axis that is not drawn; one for all if they are too many."""
    values = sorted({x for p in panels for point in p.points if (x := _of(point, other))})
    markers = ("o", *MARKERS)
    if not 1 < len(values) <= len(markers):
        return {None: "o"}
    return dict(zip(values, markers, strict=False))


def _points(
    axes: Axes, panel: Panel, axis: Axis, other: Axis, marks: dict[float | None, str]
) -> None:
    for point in panel.points:
        x = _of(point, axis)
        if x is None:
            continue
        low, high = point.low, point.high
        if low is not None and high is not None and low > 0:
            axes.plot([x, x], [low, high], color=panel.look.colour, linewidth=1.1, alpha=0.6)
        hollow = point.task in panel.open_tasks
        axes.plot(
            x,
            point.value,
            marks.get(_of(point, other), "o"),
            color=panel.look.colour,
            markersize=5.5,
            markerfacecolor="white" if hollow else panel.look.colour,
            zorder=3,
        )


def _fit(axes: Axes, fit: ScalingFit, axis: Axis, colour: str) -> None:
    curve = fit.curve[axis]
    axes.plot([x for x, _ in curve], [y for _, y in curve], color=colour, linewidth=1.3)
    beyond = next((item for item in fit.predictions if item.axis == axis), None)
    if beyond is not None:
        _extrapolate(axes, beyond, curve[-1], colour)


def _extrapolate(axes: Axes, beyond: Extrapolation, last: tuple[float, float], colour: str) -> None:
    """Everything right of the largest task is shaded, dashed and called what it is."""
    edge = last[0] * (beyond.at / last[0]) ** 0.12
    axes.axvspan(edge, beyond.at * 1.25, color=BEYOND, alpha=0.7, linewidth=0, zorder=0)
    axes.plot([last[0], beyond.at], [last[1], beyond.value.value], ":", color=colour, linewidth=1.3)
    low, high = beyond.value.low, beyond.value.high
    if low is not None and high is not None and low > 0:
        axes.plot([beyond.at] * 2, [low, high], ":", color=colour, linewidth=2.0)
    axes.plot(
        beyond.at, beyond.value.value, "o", color=colour, markerfacecolor="white", markersize=5
    )
    axes.text(
        0.985,
        0.03,
        "extrapolated",
        transform=axes.transAxes,
        ha="right",
        va="bottom",
        fontsize=7.5,
        style="italic",
        color="#555555",
    )


def _say(axes: Axes, text: str) -> None:
    axes.text(
        0.5,
        0.03,
        broken(text.replace(" ", "_"), 30).replace("_", " "),
        transform=axes.transAxes,
        ha="center",
        va="bottom",
        fontsize=7.5,
        color="#555555",
    )


def _places(panels: Sequence[Panel], axis: Axis) -> list[float]:
    """Where the tasks lie, and the extrapolation; of many values those that have room."""
    tasks = {x for panel in panels for point in panel.points if (x := _of(point, axis))}
    fits = [panel.fit for panel in panels if panel.fit is not None]
    beyond = {item.at for fit in fits for item in fit.predictions if item.axis == axis}
    values = sorted(tasks | beyond)
    apart = math.log(values[-1] / values[0]) / MOST_TICKS
    kept = values[:1]
    for value in values[1:]:
        if math.log(value / kept[-1]) >= apart:
            kept.append(value)
    return kept


def _ticks(axes: Axes, places: Sequence[float], *, speedup: bool) -> None:
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short(x)))
    low, high = axes.get_ylim()
    if high < WIDE * low:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    else:
        axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=8))
    digits = ".2f" if speedup else ".3g"
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: format(y, digits)))
    for side in (axes.xaxis, axes.yaxis):
        side.set_minor_locator(NullLocator())
        side.set_minor_formatter(NullFormatter())


def _legend(figure: Figure, marks: dict[float | None, str], other: Axis) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="", marker=marker, color="#555555", label=short(value))
        for value, marker in marks.items()
    ]
    figure.legend(
        handles=handles,
        title=WORDS[other],
        loc="outside upper left",
        ncols=len(handles),
        fontsize=8,
        title_fontsize=8,
    )


def _about_fit(panels: Sequence[Panel], axis: Axis, *, several: bool) -> str:
    fits = [panel.fit for panel in panels if panel.fit is not None]
    text = "Markers tell the other axis apart. " if several else ""
    if not fits:
        return text + "No line is fitted."
    text += "The line is the fit of a power law with the other axis at its geometric mean."
    beyond = [item for fit in fits for item in fit.predictions if item.axis == axis]
    if beyond:
        level = f"{100 * beyond[0].value.level:.4g} %"
        text += (
            " Shaded and dotted: extrapolated beyond the largest task, to "
            f"{beyond[0].factor:.3g} times of it. Nothing was trained there; "
            f"the bar is the {level} prediction interval for one new task."
        )
    return text
