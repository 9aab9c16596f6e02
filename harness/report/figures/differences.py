"""The result in pictures: differences with intervals, and every seed's final loss."""

from __future__ import annotations

from matplotlib.axes import Axes

from harness.analysis.results import Comparison
from harness.analysis.stats.intervals import Interval
from harness.analysis.study_results import StudyResults
from harness.report import numbers
from harness.report.figures.canvas import Drawing, appearances, new_axes, rows_height

VERDICT_MARKERS = {"better": "◀", "worse": "▶", "equivalent": "=", "inconclusive": "?"}


def forest(study: StudyResults) -> Drawing | None:
    """Differences from the baseline with intervals, and the margin of equivalence as a band."""
    comparisons = study.comparisons_in_rank_order()
    drawn = [c for c in comparisons if c.mean_difference is not None]
    if not drawn:
        return None
    look = appearances(study)
    figure, axes = new_axes(height=rows_height(len(comparisons)))
    margin = study.analysis.margin if study.analysis else None
    if margin is not None:
        axes.axvspan(-margin, margin, color="#009E73", alpha=0.13, linewidth=0)
    axes.axvline(0.0, color=look[study.baseline].colour, linewidth=1.2)
    for row, comparison in enumerate(comparisons):
        colour = look[comparison.variant].colour
        _draw_interval(axes, row, comparison.simultaneous_interval, colour, linewidth=1.4)
        _draw_interval(axes, row, comparison.interval, colour, linewidth=4.5)
        if comparison.mean_difference is not None:
            axes.plot(
                comparison.mean_difference,
                row,
                "o",
                color=colour,
                markersize=7,
                markeredgecolor="white",
            )
        else:
            axes.text(
                0.0,
                row,
                "compared by ranks, no mean",
                ha="center",
                va="center",
                fontsize=9,
                color="#555555",
                backgroundcolor="white",
            )
        _write_verdict(axes, row, comparison)
    _name_rows(axes, [comparison.variant for comparison in comparisons])
    axes.set_xlabel(f"validation loss − that of {study.baseline} (nats); left is better")
    return Drawing(figure=figure, caption=_forest_caption(drawn[0], margin, len(comparisons)))


def _forest_caption(comparison: Comparison, margin: float | None, total: int) -> str:
    interval = comparison.interval
    level = f"{100 * interval.level:.4g} %" if interval else "1 − alpha"
    text = (
        f"Mean difference of final losses. Thick: the interval of this comparison alone ({level})."
    )
    if total > 1:
        text += f" Thin: wide enough for all {total} comparisons together (Bonferroni)."
    if margin is not None:
        text += f" Green: differences within ±{margin:.4f} nats do not matter in practice."
    return text


def _draw_interval(
    axes: Axes, row: int, interval: Interval | None, colour: str, *, linewidth: float
) -> None:
    if interval is not None:
        axes.plot(
            [interval.low, interval.high],
            [row, row],
            color=colour,
            linewidth=linewidth,
            solid_capstyle="butt",
            alpha=0.85,
        )


def _write_verdict(axes: Axes, row: int, comparison: Comparison) -> None:
    word = comparison.verdict
    # The p that the verdict rests on.
    p = comparison.p_holm
    if word == "equivalent" and comparison.equivalence is not None:
        p = comparison.equivalence.p
    axes.text(
        1.01,
        row,
        f"{VERDICT_MARKERS[word]} {word}\n    {numbers.p_equals(p)}",
        transform=axes.get_yaxis_transform(),
        va="center",
        fontsize=9,
        fontweight="bold" if word in ("better", "worse") else "normal",
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
    any_lost = False
    for row, variant in enumerate(variants):
        values = list(losses[variant].values())
        axes.plot(
            values,
            [row] * len(values),
            linestyle="",
            marker=look[variant].marker,
            color=look[variant].colour,
            markersize=6,
            markeredgecolor="white",
            zorder=2,
        )
        lost = [t for t in study.of(variant) if t.outcome is not None and not t.completed]
        any_lost = any_lost or bool(lost)
        if values and not lost:
            mean = sum(values) / len(values)
            axes.plot([mean, mean], [row - 0.3, row + 0.3], color=look[variant].colour, lw=2.4)
        _mark_lost(axes, row, len(lost), look[variant].colour)
    _name_rows(axes, list(variants))
    axes.set_xlabel("final validation loss (nats)")
    caption = "One mark a seed; grey lines join equal seeds; a bar is the mean."
    if any_lost:
        caption += " A cross at the right edge is a seed without a final loss (see Outcomes)."
    return Drawing(figure=figure, caption=caption)


def _mark_lost(axes: Axes, row: int, count: int, colour: str) -> None:
    for index in range(count):
        axes.plot(
            1.02 + 0.03 * index,
            row,
            "x",
            color=colour,
            markersize=7,
            markeredgewidth=1.8,
            transform=axes.get_yaxis_transform(),
            clip_on=False,
        )


def _name_rows(axes: Axes, names: list[str]) -> None:
    """Names on the left, the first one on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
