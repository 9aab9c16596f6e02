"""Every seed's final loss: what the means stand for."""

from __future__ import annotations

from matplotlib.axes import Axes

from harness.analysis.study_results import StudyResults
from harness.report.figures.canvas import (
    Appearance,
    Drawing,
    appearances,
    highest_shown,
    name_rows,
    new_axes,
    rows_height,
)


def seed_strip(study: StudyResults) -> Drawing | None:
    """Each seed's final loss, lines joining equal seeds; lost seeds stand at the right edge."""
    variants = study.ranked()
    losses = {variant: study.losses(variant) for variant in variants}
    if not any(losses.values()):
        return None
    look = appearances(study)
    figure, axes = new_axes(height=rows_height(len(variants), each=0.36, around=1.0))
    for seed in study.seeds:
        rows = [row for row, variant in enumerate(variants) if seed in losses[variant]]
        values = [losses[variants[row]][seed] for row in rows]
        axes.plot(values, rows, color="#999999", linewidth=0.8, alpha=0.7, zorder=1)
    values = [value for found in losses.values() for value in found.values()]
    top = max(values) if (shown := highest_shown(values)) is None else shown
    lost = {
        v: sum(t.outcome is not None and not t.completed for t in study.of(v)) for v in variants
    }
    for row, variant in enumerate(variants):
        _draw_row(axes, row, list(losses[variant].values()), look[variant], lost[variant], top)
    _fit(axes, min(values), top)
    name_rows(axes, list(variants))
    axes.set_xlabel("final validation loss (nats)")
    caption = "One mark a seed; grey lines join equal seeds; a bar is the mean."
    if any(lost.values()):
        caption += " A cross at the right edge is a seed without a final loss (see Outcomes)."
    if max(values) > top:
        caption += " An arrow at the right edge points to seeds whose loss lies beyond it."
    return Drawing(figure=figure, caption=caption)


def _draw_row(
    axes: Axes, row: int, values: list[float], look: Appearance, lost: int, top: float
) -> None:
    """One variant: a mark a seed, the mean if no seed was lost, and what lies beyond the edge."""
    axes.plot(
        values,
        [row] * len(values),
        linestyle="",
        marker=look.marker,
        color=look.colour,
        markersize=6,
        markeredgecolor="white",
        zorder=2,
    )
    if values and not lost:
        mean = sum(values) / len(values)
        axes.plot([mean, mean], [row - 0.3, row + 0.3], color=look.colour, lw=2.4)
    for index in range(lost):
        _mark_edge(axes, 1.03 + 0.03 * index, row, "x", look.colour)
    if any(value > top for value in values):
        _mark_edge(axes, 1.0, row, ">", look.colour)


def _fit(axes: Axes, low: float, high: float) -> None:
    pad = 0.05 * (high - low) or 0.01
    axes.set_xlim(low - pad, high + pad)


def _mark_edge(axes: Axes, x: float, row: int, marker: str, colour: str) -> None:
    axes.plot(
        x,
        row,
        marker,
        color=colour,
        markersize=7,
        markeredgewidth=1.8,
        transform=axes.get_yaxis_transform(),
        clip_on=False,
    )
