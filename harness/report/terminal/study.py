"""The result of a study for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.analysis.growth import ADDED_SEEDS, growth_sentences, seeds_added_late
from harness.analysis.machines import why_no_times
from harness.analysis.measures import median_tokens_per_s
from harness.analysis.shrinkage import not_tuned
from harness.analysis.study_analysis import why_no_analysis
from harness.analysis.study_results import StudyResults
from harness.report import numbers, tables
from harness.report.missing import NOT_COUNTED, missing_trials, which_are_missing, why_missing
from harness.report.prose import plural
from harness.report.terminal.analysis import VERDICT_STYLES
from harness.report.verdict_section import seeds_to_settle


def render_study(study: StudyResults) -> RenderableType:
    """A table of the variants, then the verdicts in words, or the reason why there are none."""
    return Group(_table(study), *_verdicts(study), *_failures(study), *_machines(study))


def _table(study: StudyResults) -> Table:
    full = tables.results(study)
    table = Table(
        box=box.SIMPLE,
        padding=(0, 1),
        pad_edge=False,
        title=Text(study.name),
        title_justify="left",
        title_style="bold",
    )
    table.add_column("variant", overflow="fold")
    for heading in ("loss", "difference", "interval", "tokens/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("completed", overflow="fold")
    at = {column.title: index for index, column in enumerate(full.columns)}
    for row in full.rows:
        variant = row[at["variant"]]
        speed = numbers.rate(median_tokens_per_s(study.of(variant)))
        table.add_row(
            Text(variant),
            row[at["loss"]].replace("median ", "median\n"),
            row[at[f"loss − {study.baseline}"]],
            row[at["interval"]],
            speed.replace("\N{NARROW NO-BREAK SPACE}", ","),
            row[at["completed"]].replace(", ", ",\n"),
            style="bold" if variant == study.baseline else None,
        )
    return table


def _verdicts(study: StudyResults) -> Iterator[RenderableType]:
    analysis = study.analysis
    if analysis is None:
        yield Text(f"No verdict. {why_no_analysis(study) or ''}", style="yellow")
        return
    verdicts = Table.grid(padding=(0, 2, 0, 0))
    for comparison in study.comparisons_in_rank_order():
        sentence = comparison.sentence + seeds_to_settle(comparison)
        word = Text(comparison.verdict, style=VERDICT_STYLES[comparison.verdict])
        verdicts.add_row(word, Text(sentence))
    yield verdicts
    yield from (Text(target.sentence) for target in analysis.targets)
    for variant in study.variants:
        if reason := not_tuned(study, variant):
            yield Text(f"{variant} is not tuned: {reason}.", style="yellow")
    grown = growth_sentences(study.additions, study.settings.analysis)
    yield from (Text(line, style="yellow") for line in grown)
    if seeds_added_late(study) and ADDED_SEEDS not in grown:
        yield Text(ADDED_SEEDS, style="yellow")
    if not study.complete:
        yield Text(
            f"Not finished: {study.finished} of {len(study.confirmation)} trials. "
            "This is not the planned result.",
            style="yellow",
        )
    yield from (Text(f"- {note}", style="dim") for note in analysis.notes)


def _failures(study: StudyResults) -> Iterator[RenderableType]:
    failures = tables.failures(study)
    for variant, seed, outcome, step, reason in failures.rows if failures else ():
        yield Text(f"{variant} seed {seed}: {outcome} at step {step}: {reason}", style="yellow")


def _machines(study: StudyResults) -> Iterator[RenderableType]:
    """What the machines did, as far as a reader of the table should know it."""
    if attempts := tables.tried_again(study):
        count = len(attempts)
        were = "attempt was" if count == 1 else "attempts were"
        yield Text(
            f"{count} {were} ended by the machine and resumed: {tables.counted_ends(attempts)}.",
            style="dim",
        )
    if missing := missing_trials(study):
        yield Text(
            f"{plural(len(missing), 'trial')} missing: {which_are_missing(missing)}. {NOT_COUNTED}",
            style="yellow",
        )
        yield from (Text(f"- {sentence}", style="yellow") for sentence in why_missing(missing))
    if why := why_no_times(study):
        yield Text(f"{why}.", style="yellow")
