"""The leaderboard of a suite for a terminal: places first, then what they rest on."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.analysis.suite.results import Estimate, Standing, SuiteAnalysis
from harness.report.terminal.analysis import VERDICT_STYLES


def render_leaderboard(analysis: SuiteAnalysis) -> RenderableType:
    """Places, then every verdict, what ranks and sizes say, and every note."""
    parts: list[RenderableType] = [_places(analysis), _verdicts(analysis), Text()]
    parts.extend(Text(f"- {line}") for line in _lines(analysis))
    return Group(*parts)


def _places(analysis: SuiteAnalysis) -> Table:
    table = Table(title="Leaderboard", title_justify="left", box=box.SIMPLE, pad_edge=False)
    for heading in ("#", "contestant", "score", "reached", "speed-up", "IQM", "P(better)", "rank"):
        table.add_column(heading, overflow="fold", min_width=len(heading))
    for standing in analysis.leaderboard:
        table.add_row(*_row(standing))
    return table


def _row(standing: Standing) -> Iterator[str]:
    yield str(standing.place)
    yield standing.variant
    yield _written(standing.score)
    yield f"{standing.reached}/{standing.tasks}"
    yield _value(standing.speedup)
    yield _value(standing.iqm_difference, sign="+")
    yield _value(standing.improvement)
    yield _value(standing.mean_rank)


def _written(estimate: Estimate | None, *, sign: str = "") -> str:
    if estimate is None:
        return "-"
    ends = ("…" if end is None else f"{end:{sign}.3g}" for end in (estimate.low, estimate.high))
    bracket = "" if estimate.low is None and estimate.high is None else f" [{' '.join(ends)}]"
    return f"{estimate.value:{sign}.3g}{bracket}"


def _value(estimate: Estimate | None, *, sign: str = "") -> str:
    return "-" if estimate is None else f"{estimate.value:{sign}.3g}"


def _verdicts(analysis: SuiteAnalysis) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for result in analysis.results:
        if result.verdict is not None and result.sentence is not None:
            style = VERDICT_STYLES[result.verdict]
            grid.add_row(result.task, Text(result.verdict, style=style), Text(result.sentence))
    return grid


def _lines(analysis: SuiteAnalysis) -> Iterator[str]:
    for standing in analysis.leaderboard:
        if not standing.is_baseline:
            yield standing.sentence
    yield from _ranks(analysis)
    for scaling in analysis.speedups:
        if scaling.fit is not None:
            yield f"{scaling.variant}: {scaling.fit.sentence}"
            yield from (f"{scaling.variant}: {p.sentence}" for p in scaling.fit.predictions)
    for task in analysis.tasks:
        if task.note or task.why_not:
            yield f"{task.task}: {task.why_not or task.note}"
    yield from analysis.notes


def _ranks(analysis: SuiteAnalysis) -> Iterator[str]:
    ranks = analysis.ranks
    if ranks.friedman_p is None or ranks.critical_difference is None:
        return
    yield (
        f"ranks: Friedman p = {ranks.friedman_p:.2g}, critical difference "
        f"{ranks.critical_difference:.2f} over {ranks.tasks} tasks"
    )
    yield from (f"not separated by ranks: {', '.join(group)}" for group in ranks.groups)
    if ranks.note:
        yield ranks.note
