"""Performance profiles: the share of tasks solved within a factor of the fastest."""

from __future__ import annotations

from matplotlib.ticker import PercentFormatter

from harness.analysis.suite.results import SuiteAnalysis
from harness.report.figures.canvas import Drawing, new_axes
from harness.report.suite.figures.labels import name_lines
from harness.report.suite.material import appearances

NUDGE = 0.007
"""Lines on top of each other are moved apart by so much."""
LINE_WIDTH, MUTED_WIDTH = 1.8, 1.2


def profiles(analysis: SuiteAnalysis) -> Drawing | None:
    """One step function for each contestant, named at its end."""
    if not analysis.profiles:
        return None
    look = appearances(analysis)
    place = {row.variant: row.place for row in analysis.leaderboard}
    drawn = sorted(analysis.profiles, key=lambda profile: place[profile.variant])
    figure, axes = new_axes(height=max(3.4, 1.2 + 0.22 * len(drawn)))
    largest, ends = analysis.settings.largest_ratio, []
    last = max(ratio for profile in drawn for ratio in profile.ratios[:-1])
    shown = min(largest, 1.0 + 1.3 * max(last - 1.0, 0.1))
    axes.set_ylim(-0.04, 1.06)
    for number, profile in enumerate(drawn):
        nudge = NUDGE * ((len(drawn) - 1) / 2 - number)
        own = look[profile.variant]
        heights = [share + nudge for share in profile.shares]
        axes.step(
            [min(ratio, shown) for ratio in profile.ratios],
            heights,
            where="post",
            color=own.colour,
            linewidth=MUTED_WIDTH if own.muted else LINE_WIDTH,
            zorder=2 if own.muted else 2.5,
        )
        ends.append((profile.variant, heights[-1], "#555555" if own.muted else own.colour))
    axes.set_xlim(1.0, shown)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel(f"times the fewest {analysis.measure_in_words}")
    axes.set_ylabel("share of tasks")
    name_lines(axes, ends, x=shown, gap=0.062)
    return Drawing(
        figure=figure,
        caption="The share of tasks on which the contestant's median run reached the target within "
        "this factor of the fastest contestant of that task (Dolan and Moré, 2002). Higher and "
        "further left is better; the score of the leaderboard is the area under the line. A task "
        "that was never reached never enters, so that a line may stay below 100 %. Lines on top "
        "of each other are drawn slightly apart."
        + (f" They go on level from here to {largest:g}." if shown < largest else ""),
    )
