"""The critical-difference diagram: average ranks, and which of them are not separated."""

from __future__ import annotations

from matplotlib.axes import Axes

from harness.analysis.suite.results import RankComparison, SuiteAnalysis
from harness.report.figures.canvas import WIDTH, Drawing, broken, new_axes, text_width
from harness.report.suite.material import appearances

ROW, BAR = 0.27, 0.17
"""Inches of a name, and of a bar."""
TOP = 0.75
"""Inches above the scale: its numbers, and the length of the critical difference."""


def ranks(analysis: SuiteAnalysis) -> Drawing | None:
    """The scale of ranks with a lead to every name; a bar joins what is not separated."""
    found = analysis.ranks
    order = sorted(found.mean_ranks, key=lambda name: found.mean_ranks[name])
    if len(order) < 2:
        return None
    half, bars = (len(order) + 1) // 2, len(found.groups)
    depth = BAR * bars + 0.2 + ROW * half
    names = max(text_width(broken(name), size=9.5) for name in order) + 0.55
    figure, axes = new_axes(height=TOP + depth, width=max(WIDTH, 3.6 + 2 * names))
    axes.set_axis_off()
    last = float(len(order))
    # Heights in inches below the scale; the names stand beside the ranks 1 and last.
    inch = (last - 1) / (max(WIDTH, 3.6 + 2 * names) - 2 * names)
    axes.set_xlim(1 - names * inch, last + names * inch)
    axes.set_ylim(-depth, TOP)
    _scale(axes, int(last))
    if found.critical_difference is not None:
        _ruler(axes, found.critical_difference, last)
    for number, group in enumerate(found.groups):
        means = [found.mean_ranks[name] for name in group]
        y = -0.12 - BAR * number
        axes.plot(
            [min(means) - 0.04, max(means) + 0.04],
            [y, y],
            color="#555555",
            linewidth=4,
            solid_capstyle="butt",
        )
    look = appearances(analysis)
    for number, name in enumerate(order):
        on_left = number < half
        row = number if on_left else len(order) - 1 - number
        y = -(BAR * bars + 0.25 + ROW * row)
        x, edge = found.mean_ranks[name], 1 - 0.1 * inch if on_left else last + 0.1 * inch
        colour = look[name].colour
        axes.plot([x, x, edge], [0, y, y], color=colour, linewidth=1.1)
        axes.plot(x, 0, look[name].marker, color=colour, markersize=6, clip_on=False, zorder=3)
        text = f"{broken(name)}  {x:.2f}" if on_left else f"{x:.2f}  {broken(name)}"
        axes.text(
            edge + (-0.06 if on_left else 0.06) * inch,
            y,
            text,
            ha="right" if on_left else "left",
            va="center",
            fontsize=9.5,
        )
    return Drawing(figure=figure, caption=_caption(found, analysis.settings.alpha))


def _scale(axes: Axes, last: int) -> None:
    axes.plot([1, last], [0, 0], color="#222222", linewidth=1)
    for rank in range(1, last + 1):
        axes.plot([rank, rank], [0, 0.07], color="#222222", linewidth=1)
        axes.text(rank, 0.12, str(rank), ha="center", va="bottom", fontsize=9)


def _ruler(axes: Axes, critical: float, last: float) -> None:
    """How long the critical difference is, above the scale."""
    end = min(1 + critical, last + 0.5)
    axes.plot([1, end], [0.45, 0.45], color="#222222", linewidth=1.4)
    for x in (1, end):
        axes.plot([x, x], [0.41, 0.49], color="#222222", linewidth=1.4)
    axes.text(
        (1 + end) / 2,
        0.52,
        f"critical difference {critical:.2f}",
        ha="center",
        va="bottom",
        fontsize=9,
    )


def _caption(found: RankComparison, alpha: float) -> str:
    text = (
        f"Average rank over {found.tasks} tasks, 1 is the best; a contestant that lost a run on a "
        "task stands last there. "
    )
    if found.critical_difference is None:
        return text + f"No critical difference: {found.why_not or 'not known'}."
    text += (
        "A bar joins contestants whose ranks are not separated: they lie within the critical "
        f"difference (Nemenyi, at {alpha:g} over all pairs; Demšar, 2006). It knows of no size "
        "of a difference and takes the tasks as a sample of many; the verdicts of each task do not."
    )
    return text + (f" {found.note[:1].upper()}{found.note[1:]}." if found.note else "")
