"""The result of a study for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.analysis import Analysis
from harness.compare import VERDICT_STYLES
from harness.report import numbers, tables
from harness.report.answer import seeds_to_settle
from harness.report.rows import why_no_analysis
from harness.report.tuned import not_tuned
from harness.report.view import StudyView, load_view
from harness.results import StudyFolder


def render_terminal(folder: StudyFolder, analysis: Analysis | None) -> RenderableType:
    """A table of the variants, then the verdicts in words, or the reason why there are none."""
    view = load_view(folder)
    return Group(_table(view), *_verdicts(view, analysis), *_failures(view))


def _table(view: StudyView) -> Table:
    full = tables.results(view)
    table = Table(
        box=box.SIMPLE,
        padding=(0, 1),
        pad_edge=False,
        title=view.name,
        title_justify="left",
        title_style="bold",
    )
    table.add_column("variant", overflow="fold")
    for heading in ("loss", "interval", "accuracy", "tokens/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("completed", overflow="fold")
    at = {column.title: index for index, column in reversed(list(enumerate(full.columns)))}
    for row in full.rows:
        variant = row[at["variant"]]
        table.add_row(
            variant,
            row[at["loss"]],
            row[at["interval"]],
            row[at["accuracy"]],
            numbers.count(tables.median_tokens_per_s(view.of(variant))).replace(
                "\N{NARROW NO-BREAK SPACE}", ","
            ),
            row[at["completed"]],
            style="bold" if variant == view.baseline else None,
        )
    return table


def _verdicts(view: StudyView, analysis: Analysis | None) -> Iterator[RenderableType]:
    if analysis is None:
        yield Text(f"No verdict. {why_no_analysis(view) or ''}", style="yellow")
        return
    place = {variant: index for index, variant in enumerate(view.ranked())}
    verdicts = Table.grid(padding=(0, 2, 0, 0))
    for comparison in sorted(analysis.comparisons, key=lambda item: place[item.variant]):
        sentence = comparison.sentence + seeds_to_settle(asdict(comparison))
        word = Text(comparison.verdict, style=VERDICT_STYLES[comparison.verdict])
        verdicts.add_row(word, sentence)
    yield verdicts
    yield from (Text(target.sentence) for target in analysis.targets)
    for variant in view.variants:
        if reason := not_tuned(view, variant):
            yield Text(f"{variant} is not tuned: {reason}.", style="yellow")
    if not view.complete:
        yield Text(
            f"Not finished: {view.finished} of {len(view.confirmation)} trials. "
            "This is not the planned result.",
            style="yellow",
        )
    yield from (Text(f"- {note}", style="dim") for note in analysis.notes)


def _failures(view: StudyView) -> Iterator[RenderableType]:
    failures = tables.failures(view)
    for variant, seed, outcome, step, reason in failures.rows if failures else ():
        yield Text(f"{variant} seed {seed}: {outcome} at step {step}: {reason}", style="yellow")
