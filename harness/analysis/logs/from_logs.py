"""`optbench compare --from-logs`: the statistics for other people's training logs.

Logs in, the table of their final losses, and from it the same analysis that the table itself would
get from `optbench compare`. With curves and a target: the steps to it, and the speed-up.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from harness.analysis.from_csv import compare_rows
from harness.analysis.logs.ends import LogRun, ended_runs, notes_of
from harness.analysis.logs.formats import LogFormat
from harness.analysis.logs.naming import named_logs
from harness.analysis.logs.reading import Log, read_log
from harness.analysis.results import Analysis, Comparison, plain
from harness.analysis.stats.pairing import Pairing
from harness.analysis.stats.speedup import TargetSpeedup, cost_to_target, target_speedup
from harness.errors import UserError

SHOWN_FILES = 3
TABLE_COLUMNS = (
    "variant",
    "seed",
    "value",
    "outcome",
    "diverged_at_step",
    "steps",
    "planned_steps",
    "log",
)
CURVE_COLUMNS = ("variant", "seed", "step", "loss", "log")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsToTarget:
    """One variant's way to the target, against the baseline's; `why_not` where nothing is said."""

    variant: str
    speedup: TargetSpeedup | None = None
    why_not: str | None = None

    @property
    def sentence(self) -> str:
        return self.speedup.statement if self.speedup else f"no speed-up: {self.why_not}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsAnalysis:
    """The runs that were read, and what the statistics say about them."""

    runs: tuple[LogRun, ...]
    analysis: Analysis
    ways: tuple[StepsToTarget, ...]

    def to_json(self) -> dict[str, Any]:
        """The JSON of the analysis, with `logs` and `steps_to_target`."""
        logs = [dict(zip(TABLE_COLUMNS, cells, strict=True)) for cells in _table(self.runs)]
        ways = [{**plain(asdict(way)), "sentence": way.sentence} for way in self.ways]
        return {**self.analysis.to_json(), "logs": logs, "steps_to_target": ways}


def read_runs(
    sources: Sequence[str],
    form: LogFormat,
    *,
    path_pattern: str | None = None,
    steps: float | None = None,
    unequal_steps: bool = False,
    empty_failed: bool = False,
) -> list[LogRun]:
    """The runs of all logs.

    Args:
        sources: each a GLOB, or NAME=GLOB for the runs of one variant.
        path_pattern: finds variant, seed or both in a path.
        steps: the loss at this step is compared; None: the last of each run.
        unequal_steps: runs of unequal length are no mistake.
        empty_failed: a log without a loss is a run that failed, and no mistake.

    Raises:
        UserError: every mistake about the paths; logs without a loss; runs of unequal length.
    """
    named = named_logs(sources, path_pattern=path_pattern)
    logs = [read_log(log.path, form) for log in named]
    empty = [log for log in logs if not log.points]
    if len(empty) == len(logs) or (empty and not empty_failed):
        raise UserError("\n".join(_without_a_loss(empty, len(logs), form)))
    return ended_runs(named, logs, steps=steps, unequal_steps=unequal_steps, unit=_unit(form))


def compare_logs(
    runs: Sequence[LogRun],
    form: LogFormat,
    *,
    steps: float | None = None,
    baseline: str | None = None,
    alpha: float = 0.05,
    pairing: Pairing = "auto",
    margin: float | None = None,
    looks: Sequence[int] = (),
    target: float | None = None,
) -> LogsAnalysis:
    """As `compare_file`, of runs read from logs.

    Args:
        steps: as `read_runs` had it.

    Raises:
        UserError: as `compare_file`; pairs asked for where nobody named the seeds.
    """
    if pairing == "paired" and not all(run.seed_is_named for run in runs):
        raise UserError(
            "--paired needs the seed of each run: find it in the paths with "
            r"--path-pattern 'seed(?P<seed>\d+)'"
        )
    analysis = compare_rows(
        [run.row for run in runs],
        baseline=baseline,
        alpha=alpha,
        pairing=pairing,
        margin=margin,
        looks=looks,
        target=target,
    )
    notes = notes_of(runs, steps=steps, unit=_unit(form))
    ways = () if target is None or not form.has_steps else _ways(runs, analysis, target)
    return LogsAnalysis(
        runs=tuple(runs), analysis=replace(analysis, notes=(*notes, *analysis.notes)), ways=ways
    )


def table_csv(runs: Sequence[LogRun]) -> str:
    """What was read, as a table that `optbench compare` reads; losses with all their digits."""
    return _csv(TABLE_COLUMNS, _table(runs))


def curves_csv(runs: Sequence[LogRun]) -> str:
    """Every loss of every log, one row each."""
    rows = (
        (
            run.row.variant,
            run.row.seed,
            _whole(point.step),
            repr(point.loss),
            run.log.path.as_posix(),
        )
        for run in runs
        for point in run.log.points
    )
    return _csv(CURVE_COLUMNS, rows)


def _csv(columns: Sequence[str], rows: Iterator[tuple[Any, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def _table(runs: Sequence[LogRun]) -> Iterator[tuple[Any, ...]]:
    for run in runs:
        row = run.row
        yield (
            row.variant,
            row.seed,
            row.value,
            row.outcome,
            row.diverged_at_step,
            None if run.last_step is None else _whole(run.last_step),
            _whole(run.planned),
            run.log.path.as_posix(),
        )


def _whole(step: float) -> int | float:
    """Steps are whole; epochs may not be."""
    return int(step) if step.is_integer() else step


def _unit(form: LogFormat) -> str:
    return "steps" if form.has_steps else "matches"


def _without_a_loss(empty: Sequence[Log], of: int, form: LogFormat) -> Iterator[str]:
    yield f"{len(empty)} of {of} logs have no loss by the form {form.says!r}"
    if form.pattern is not None:
        yield f"  expression: {form.pattern.pattern}"
    for log in empty[:SHOWN_FILES]:
        yield f"  {log.path} begins:"
        yield from (f"    {line}" for line in log.first_lines or ("(empty)",))
    if len(empty) > SHOWN_FILES:
        yield f"  and {len(empty) - SHOWN_FILES} more"
    yield (
        "correct --pattern or --format, or narrow the GLOB; --empty-failed counts a log without a "
        "loss as a run that failed"
    )


def _ways(runs: Sequence[LogRun], analysis: Analysis, target: float) -> tuple[StepsToTarget, ...]:
    by_name: dict[str, list[LogRun]] = {}
    for run in sorted(runs, key=lambda run: run.row.seed):
        by_name.setdefault(run.row.variant, []).append(run)
    base = by_name[analysis.settings.baseline]
    level = 1.0 - analysis.settings.alpha / max(1, len(analysis.comparisons))
    return tuple(
        _way(comparison, by_name[comparison.variant], base, target=target, level=level)
        for comparison in analysis.comparisons
    )


def _way(
    comparison: Comparison,
    own: Sequence[LogRun],
    base: Sequence[LogRun],
    *,
    target: float,
    level: float,
) -> StepsToTarget:
    name = comparison.variant
    if comparison.paired:  # with looks, one side may have more seeds than the other
        pairs = {run.row.seed for run in own} & {run.row.seed for run in base}
        own, base = ([run for run in side if run.row.seed in pairs] for side in (own, base))
    costs = [[_cost(run, target) for run in side] for side in (own, base)]
    if any(not run.row.completed and not run.row.diverged for run in (*own, *base)):
        return StepsToTarget(
            variant=name, why_not="a run ended without a result: it might have arrived"
        )
    ways = zip((*own, *base), (*costs[0], *costs[1]), strict=True)
    if any((run.planned if cost is None else cost) <= 0.0 for run, cost in ways):
        return StepsToTarget(
            variant=name, why_not="a run met the target, or ended, before its first step"
        )
    speedup = target_speedup(
        costs[0],
        costs[1],
        variant_budget=[run.planned for run in own],
        baseline_budget=[run.planned for run in base],
        paired=comparison.paired,
        level=level,
    )
    return StepsToTarget(variant=name, speedup=speedup)


def _cost(run: LogRun, target: float) -> float | None:
    """None too for a run that diverged after it had seen the target: it never arrived."""
    if not run.row.completed:
        return None
    return cost_to_target(
        [point.step for point in run.curve], [point.loss for point in run.curve], target=target
    )
