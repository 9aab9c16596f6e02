"""The result of a suite for a terminal: the leaderboard first, then the verdicts of every task."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.analysis.suite.results import Axis, Standing, SuiteAnalysis, TaskResult
from harness.analysis.suite.scaling import AXIS_WORDS
from harness.report import numbers
from harness.report.suite.answer import answer_sentence
from harness.report.suite.material import ranked
from harness.report.suite.tables import lost_runs
from harness.report.suite.values import lost_words, verdict_cell, written
from harness.report.terminal.analysis import VERDICT_STYLES
from harness.report.terminal.sheet import Sheet, folded


def render_suite(analysis: SuiteAnalysis, *, read_at: Collection[Axis] = ()) -> RenderableType:
    """The answer, the leaderboard, a table of verdicts, what was lost, and every note.

    Args:
        read_at: the axes along which somebody asked what the lines of speed-ups say.
    """
    return Group(
        Text(answer_sentence(analysis), style="bold"),
        Text(),
        *_leaderboard(analysis),
        *_verdicts(analysis),
        *_warnings(analysis),
        *(folded(f"- {line}") for line in _notes(analysis, read_at)),
    )


def _leaderboard(analysis: SuiteAnalysis) -> Iterator[RenderableType]:
    if not analysis.leaderboard:
        return
    by_score = analysis.ordered_by == "score"
    first = "area" if by_score else "average rank"
    yield Sheet(
        title=f"{analysis.name}: leaderboard",
        headings=("contestant", "#", first, "speed-up", "P(better)", "▼ ▲ = ?"),
        rows=[
            (
                row.variant,
                str(row.place),
                written(row.score if by_score else row.mean_rank),
                written(row.iqm_speedup),
                numbers.decimal(row.improvement.value if row.improvement else None),
                _counts(row),
            )
            for row in analysis.leaderboard
        ],
    )


def _counts(row: Standing) -> str:
    """Of tasks by verdict: `5 0 0 1`."""
    counts = (row.better, row.worse, row.equivalent, row.inconclusive)
    if all(count is None for count in counts):
        return numbers.MISSING
    return " ".join(map(str, counts))


def _verdicts(analysis: SuiteAnalysis) -> Iterator[RenderableType]:
    """A table of tasks by contestants where it fits; each verdict as a line otherwise."""
    names = [name for name in ranked(analysis) if name != analysis.baseline]
    if not names:
        return
    yield _Matrix(analysis, names)


class _Matrix:
    """Tasks down, contestants across: sign and difference, coloured by the verdict."""

    def __init__(self, analysis: SuiteAnalysis, names: list[str]) -> None:
        self.analysis, self.names = analysis, names

    def __rich_console__(self, console: object, options: object) -> Iterator[RenderableType]:
        found = [
            [_cell(self.analysis.result(task.task, name)) for name in self.names]
            for task in self.analysis.tasks
        ]
        tasks = [task.task for task in self.analysis.tasks]
        widths = [
            max(len(name), *(cell.cell_len for cell in column))
            for name, column in zip(self.names, zip(*found, strict=True), strict=True)
        ]
        needed = max(map(len, ["task", *tasks])) + sum(widths) + 2 * len(widths)
        # Not as the title of the table, which would fold it to the table's own width.
        yield Text(self._title, style="italic")
        if needed <= options.max_width:  # type: ignore[attr-defined]
            yield self._table(tasks, found)
        else:
            yield self._lines(tasks, found)

    @property
    def _title(self) -> str:
        signs = "▼ better, ▲ worse, = equivalent, ? inconclusive"
        return f"Verdicts against {self.analysis.baseline}: {signs}"

    def _table(self, tasks: list[str], found: list[list[Text]]) -> Table:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_row("task", *map(Text, self.names), style="dim")
        for task, cells in zip(tasks, found, strict=True):
            table.add_row(Text(task), *cells)
        return table

    def _lines(self, tasks: list[str], found: list[list[Text]]) -> Group:
        parts: list[RenderableType] = []
        for task, cells in zip(tasks, found, strict=True):
            parts.append(folded(task))
            for name, cell in zip(self.names, cells, strict=True):
                parts.append(Text.assemble("  ", name, " ", cell, overflow="fold"))
        return Group(*parts)


def _cell(result: TaskResult) -> Text:
    style = "" if result.verdict is None else VERDICT_STYLES[result.verdict]
    return Text(verdict_cell(result, interval=False), style=style)


def _warnings(analysis: SuiteAnalysis) -> Iterator[RenderableType]:
    yield Text()
    for task in analysis.tasks:
        if task.why_not:
            yield folded_in(f"{task.task} is not decided: {task.why_not.rstrip('.')}.", "yellow")
    for row in analysis.leaderboard:
        if row.lost:
            where = ", ".join(
                f"{r.task} ({lost_words(r)})"
                for r in analysis.results
                if r.variant == row.variant and r.lost
            )
            text = f"{row.variant} lost runs: {lost_runs(analysis, row)}: {where}."
            yield folded_in(text, "yellow")


def folded_in(text: str, style: str) -> Text:
    return Text(text, style=style, overflow="fold")


def _notes(analysis: SuiteAnalysis, read_at: Collection[Axis]) -> Iterator[str]:
    yield from _lines_of_speedups(analysis, read_at)
    if analysis.ranks.critical_difference is not None:
        yield (
            f"average ranks closer than {analysis.ranks.critical_difference:.2f} are not separated"
        )
    if analysis.ranks.note:
        yield analysis.ranks.note
    yield from analysis.notes


def _lines_of_speedups(analysis: SuiteAnalysis, read_at: Collection[Axis]) -> Iterator[str]:
    """What each line says and, once for all contestants, what weakens it."""
    remarks: dict[str, list[str]] = {}
    for scaling in analysis.speedups:
        if scaling.fit is not None and scaling.note:
            remarks.setdefault(scaling.note, []).append(scaling.variant)
        if scaling.fit is not None:
            yield f"{scaling.variant}: {numbers.real_minus(scaling.fit.sentence.rstrip('.'))}"
        for axis in read_at:
            read = scaling.fit.predictions if scaling.fit else ()
            found = [item.sentence for item in read if item.axis == axis]
            why_not = f": {scaling.why_not}" if scaling.why_not else ""
            nothing = f"no line over {AXIS_WORDS[axis]} is fitted{why_not}"
            yield f"{scaling.variant}: {found[0] if found else nothing}"
    for remark, names in remarks.items():
        yield f"speed-ups of {', '.join(names)}: {remark}"
