"""Several measures side by side: quality and cost of each variant."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from harness.analysis.machines import why_no_times
from harness.analysis.measures import MEASURES, Measure, estimate, shown_values
from harness.analysis.study_results import StudyResults, mean_of
from harness.report.figures.canvas import (
    WIDTH,
    Drawing,
    appearances,
    broken,
    name_rows,
    new_axes,
    rows_height,
    text_width,
)
from harness.runs.snapshot import TrialSnapshot

PANEL_WIDTH = 2.3
"""Inches that the longest title needs."""


def comparison(study: StudyResults) -> Drawing | None:
    """Four measures: mean over the seeds with a t interval, small dots for the seeds.

    A variant that lost a seed has dots only: the mean of its survivors says nothing.
    """
    variants = [variant for variant in study.ranked() if study.losses(variant)]
    if not variants:
        return None
    look = appearances(study)
    names = max(text_width(broken(variant), size=10) for variant in variants)
    width = max(WIDTH, names + 2 * PANEL_WIDTH)
    figure = Figure(figsize=(width, 2 * rows_height(len(variants), each=0.3, around=0.75)))
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2, sharey=True)
    for axes, measure in zip(panels.flat, MEASURES, strict=True):
        for row, variant in enumerate(variants):
            _draw_row(axes, row, study, variant, measure, look[variant].colour)
        axes.set_title(measure.axis)
        axes.locator_params(axis="x", nbins=5)
        if measure.name == "accuracy":
            axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        name_rows(axes, variants)
    return Drawing(
        figure=figure,
        caption=f"Mean over the seeds with {study.percent} t intervals; small dots are seeds. A "
        "variant that lost a seed has no mean. The intervals of single variants do not show "
        "whether a difference is significant: pairs are closer than that. Training time "
        "leaves out start-up and evaluation." + _about_times(study),
    )


def _about_times(study: StudyResults) -> str:
    why = why_no_times(study)
    return f" {why}." if why else ""


def _draw_row(
    axes: Axes, row: int, study: StudyResults, variant: str, measure: Measure, colour: str
) -> None:
    values = shown_values(study.of(variant), measure)
    axes.plot(values, [row] * len(values), "o", color=colour, markersize=3, alpha=0.35)
    found = estimate(study, variant, measure)
    if found is None:
        return
    if found.low is not None and found.high is not None:
        axes.plot([found.low, found.high], [row, row], color=colour, linewidth=2)
    axes.plot(found.mean, row, "D", color=colour, markersize=6, markeredgecolor="white")


PARTS: tuple[tuple[str, str, Callable[[TrialSnapshot], float | None]], ...] = (
    ("training steps", "#0072B2", lambda trial: trial.last.train_time_s if trial.last else None),
    ("evaluation", "#E69F00", lambda trial: trial.last.evaluation_time_s if trial.last else None),
    ("start-up", "#999999", lambda trial: trial.last.startup_time_s if trial.last else None),
)
HATCHES = ("", "//", "..")


def time_breakdown(study: StudyResults) -> Drawing | None:
    """Where a trial's time went, mean over the completed seeds."""
    variants = [variant for variant in study.ranked() if study.losses(variant)]
    if not variants:
        return None
    figure, axes = new_axes(height=rows_height(len(variants), each=0.36, around=1.3))
    begin = [0.0] * len(variants)
    for (label, colour, value), hatch in zip(PARTS, HATCHES, strict=True):
        widths = [
            mean_of([t for t in study.of(variant) if t.completed], value) or 0.0
            for variant in variants
        ]
        axes.barh(
            range(len(variants)),
            widths,
            left=begin,
            height=0.62,
            color=colour,
            hatch=hatch,
            edgecolor="white",
            linewidth=0.6,
            label=label,
        )
        begin = [start + width for start, width in zip(begin, widths, strict=True)]
    name_rows(axes, variants)
    axes.set_xlabel("seconds of one trial")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3)
    return Drawing(
        figure=figure,
        caption="Mean over the completed seeds. Start-up runs from the trial's start to the end of "
        "its first step (set-up, first evaluation, compilation); it is no part of the training "
        "time." + _about_times(study),
    )
