"""The matrix of verdicts: contestants down, tasks across."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from harness.analysis.suite.results import SuiteAnalysis, TaskResult
from harness.report import numbers
from harness.report.figures.canvas import WIDTH, Drawing, broken, name_rows, new_axes, text_width
from harness.report.suite.material import percent, ranked
from harness.report.suite.values import tone
from harness.report.verdict_words import SIGNS

COLOURS = {
    "better": ("#009e73", 0.30),
    "worse": ("#d55e00", 0.34),
    "equivalent": ("#0072b2", 0.22),
    "lost": ("#e69f00", 0.30),
    None: ("#999999", 0.10),
}
"""Of the palette that is told apart with every common colour blindness; the sign says it too."""
LOST_HATCH = "///"
TASK_CHARACTERS = 12


def verdicts(analysis: SuiteAnalysis) -> Drawing | None:
    """A cell for every contestant on every task: its sign, difference, and what it lost."""
    names = [name for name in ranked(analysis) if name != analysis.baseline]
    tasks = [task.task for task in analysis.tasks]
    if not names or not tasks:
        return None
    heads = [broken(task, TASK_CHARACTERS) for task in tasks]
    cell = max(0.8, max(text_width(head, size=9) for head in heads) + 0.15)
    left = max(text_width(broken(name), size=10) for name in names)
    lines = max(head.count("\n") + 1 for head in heads)
    figure, axes = new_axes(
        width=max(WIDTH, left + 0.4 + cell * len(tasks)),
        height=0.35 + 0.17 * lines + 0.42 * len(names),
    )
    for row, name in enumerate(names):
        for column, task in enumerate(tasks):
            _cell(axes, row, column, analysis.result(task, name))
    name_rows(axes, [broken(name) for name in names])
    axes.set_xlim(-0.5, len(tasks) - 0.5)
    axes.set_xticks(range(len(tasks)), heads, fontsize=9)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return Drawing(
        figure=figure,
        caption=f"Loss minus that of {analysis.baseline} on each task. ▼ better, ▲ worse, "
        "= equivalent, ? inconclusive; two signs: by the margin. All verdicts of the picture hold "
        f"together at {percent(analysis)}. Hatched: a run diverged or failed there, which counts "
        "as the worst result and has no mean. A dash: not decided yet.",
    )


def _cell(axes: Axes, row: int, column: int, result: TaskResult) -> None:
    colour, alpha = COLOURS[tone(result)]
    axes.add_patch(
        Rectangle(
            (column - 0.48, row - 0.46),
            0.96,
            0.92,
            facecolor=colour,
            alpha=alpha,
            linewidth=0,
        )
    )
    if result.lost:
        axes.add_patch(
            Rectangle(
                (column - 0.48, row - 0.46),
                0.96,
                0.92,
                fill=False,
                hatch=LOST_HATCH,
                edgecolor="#999999",
                linewidth=0,
            )
        )
    sign = numbers.MISSING if result.verdict is None else SIGNS[result.verdict]
    below = f"{result.lost} lost" if result.lost else ""
    if result.difference is not None:
        below = numbers.difference(result.difference, places=3)
    axes.text(
        column,
        row,
        f"{sign}\n{below}" if below else sign,
        ha="center",
        va="center",
        fontsize=8.5,
        linespacing=1.1,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.0}
        if result.lost
        else None,
    )
