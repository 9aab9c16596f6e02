"""`optbench suite score`: the analysis of a suite for a table of results of several tasks.

The file is a CSV with a header and one row a run, as `optbench compare` reads it, and more columns:
`task` is required. Optional are one of `steps_to_target`, `tokens_to_target` and
`seconds_to_target` (what the run spent until it reached the task's target; empty: it never did),
`size` (active parameters of the task's model) and `tokens` (that a whole run trains on), which are
the same in all rows of a task; of a run that did not complete, `tokens` may be those it came to.

Every task needs every contestant: one that is missing may have been left out because it lost.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from harness.analysis import from_csv
from harness.analysis.compare import analyse
from harness.analysis.result_rows import ResultRow, by_variant
from harness.analysis.results import Analysis
from harness.analysis.stats.pairing import Pairing
from harness.analysis.stats.speedup import target_speedup
from harness.analysis.suite.analyse import analyse_tasks
from harness.analysis.suite.results import Axis, Speedup, SuiteAnalysis
from harness.analysis.suite.study_task import target_speedup_as, unknown_speedup
from harness.analysis.suite.task_data import TaskData, TaskRun
from harness.errors import UserError
from harness.study.settings import AnalysisSettings
from harness.study.suite_settings import SuiteSettings
from harness.study.validation_messages import describe

TASK, SIZE, TOKENS = "task", "size", "tokens"
COST_COLUMNS: dict[str, Literal["steps", "tokens", "time"]] = {
    "steps_to_target": "steps",
    "tokens_to_target": "tokens",
    "seconds_to_target": "time",
}
MINIMUM_TASKS = 2
ALIKE = 0.85
"""Of two names: step_to_target is meant to be steps_to_target, tokens_total is another column."""


@dataclass(frozen=True, kw_only=True)
class _Row:
    line: int
    task: str
    result: ResultRow
    cost: float | None
    size: float | None
    tokens: float | None


@dataclass(frozen=True, kw_only=True)
class _Table:
    rows: tuple[_Row, ...]
    cost_column: str | None

    def tasks(self) -> dict[str, list[_Row]]:
        tasks: dict[str, list[_Row]] = {}
        for row in self.rows:
            tasks.setdefault(row.task, []).append(row)
        return tasks


def score_file(
    path: Path,
    *,
    baseline: str | None = None,
    pairing: Pairing = "auto",
    margin: float | None = None,
    larger: Mapping[Axis, float] | None = None,
    **settings: Any,
) -> SuiteAnalysis:
    """Reads, checks and analyses a CSV: all of `optbench suite score` but the printing.

    Args:
        margin: smallest difference that matters, in the unit of the values, on every task.
        larger: sizes that scaling is extrapolated to.
        settings: fields of `SuiteSettings` other than measure and target, which the table decides.

    Raises:
        UserError: every mistake of the options, or every mistake of the file.
    """
    table = _read(path)
    names = list(dict.fromkeys(row.result.variant for row in table.rows))
    if baseline is None:
        raise UserError(f"--baseline is missing: choose one of {', '.join(names)}")
    if baseline not in names:
        raise UserError(
            f"the baseline {baseline!r} has no results: choose one of {', '.join(names)}"
        )
    tasks = table.tasks()
    _check_tasks(path, tasks, names)
    measure = COST_COLUMNS[table.cost_column] if table.cost_column else "steps"
    try:
        suite = SuiteSettings(measure=measure, target="given", **settings)
        own = AnalysisSettings(
            baseline=baseline, alpha=suite.alpha / len(tasks), pairing=pairing, margin_nats=margin
        )
    except ValidationError as error:
        model = SuiteSettings if error.title == "SuiteSettings" else AnalysisSettings
        raise UserError("; ".join(describe(error, model))) from None
    _check_sizes(larger or {})
    analyses = _analyses(tasks, own)
    return analyse_tasks(
        path.stem,
        [_task(name, rows, analyses[name], table.cost_column) for name, rows in tasks.items()],
        suite,
        variants=names,
        baseline=baseline,
        larger=larger,
    )


def _check_sizes(larger: Mapping[Axis, float]) -> None:
    for axis, value in larger.items():
        if not 0.0 < value < math.inf:
            raise UserError(f"--at-{axis} ({value:g}) must be a positive number")


def _analyses(
    tasks: Mapping[str, Sequence[_Row]], settings: AnalysisSettings
) -> dict[str, Analysis]:
    """Of each task alone; the mistakes of all of them together."""
    found, mistakes = {}, []
    for name, rows in tasks.items():
        results = [row.result for row in rows]
        try:
            from_csv.check_holes(results, settings)
            found[name] = analyse(results, settings)
        except UserError as error:
            text = str(error).replace("\n", "\n  ")
            mistakes.append(f"task {name!r}: {text}")
    if mistakes:
        raise UserError("\n  ".join(mistakes))
    return found


def _task(name: str, rows: Sequence[_Row], analysis: Analysis, cost_column: str | None) -> TaskData:
    costs = {(row.result.variant, row.result.seed): row.cost for row in rows}
    runs = {
        variant: tuple(
            TaskRun(
                seed=result.seed,
                value=result.value,
                outcome=result.outcome,
                cost=costs[variant, result.seed],
            )
            for result in own
        )
        for variant, own in by_variant([row.result for row in rows]).items()
    }
    paired = all(comparison.paired for comparison in analysis.comparisons)
    speedups = _speedups(runs, analysis, paired=paired) if cost_column else {}
    return TaskData(
        name=name,
        active_parameters=rows[0].size,
        tokens=_whole(rows)[0].tokens,
        unit=rows[0].result.unit,
        runs=runs,
        analysis=analysis,
        paired=paired,
        has_costs=cost_column is not None,
        target_in_words=f"as the column {cost_column} counts it" if cost_column else "",
        speedups={"table": speedups},
    )


def _whole(rows: Sequence[_Row]) -> Sequence[_Row]:
    """The runs that tell how long one is: those that completed, or all where none did."""
    return [row for row in rows if row.result.completed] or rows


def _speedups(
    runs: Mapping[str, tuple[TaskRun, ...]], analysis: Analysis, *, paired: bool
) -> dict[str, Speedup]:
    """A table does not say how long a run was that never arrived: no bound follows from it."""
    baseline = analysis.settings.baseline
    level = 1.0 - analysis.settings.alpha / len(analysis.comparisons)
    base = [run.cost for run in runs[baseline]]
    found = {}
    for variant, own in runs.items():
        if variant == baseline:
            continue
        mine = [run.cost for run in own]
        known = [cost for cost in (*mine, *base) if cost is not None]
        if len(known) < len(mine) + len(base):
            why_not = f"{len(mine) + len(base) - len(known)} run(s) never arrived"
            found[variant] = unknown_speedup("table", why_not, level=level)
            continue
        longest = max(known)
        result = target_speedup(
            mine, base, variant_budget=longest, baseline_budget=longest, paired=paired, level=level
        )
        found[variant] = target_speedup_as(result, source="table")
    return found


def _read(path: Path) -> _Table:
    mistakes: list[str] = []
    rows: list[_Row] = []
    seen: dict[tuple[str, str, int], int] = {}
    with from_csv.table_of(path) as reader:
        columns = list(reader.fieldnames or ())
        cost_column = _check_header(path, columns)
        for record in reader:
            row = _row(record, cost_column, line=reader.line_num, mistakes=mistakes)
            if row is None:
                continue
            key = (row.task, row.result.variant, row.result.seed)
            first = seen.setdefault(key, row.line)
            if first != row.line:
                mistakes.append(
                    f"line {row.line}: task {row.task!r}, variant {row.result.variant!r}, seed "
                    f"{row.result.seed} is already in line {first}: keep one row a run"
                )
            rows.append(row)
    from_csv.refuse(path, mistakes)
    if not rows:
        raise UserError(f"{path} has no results to score: add one row a run")
    return _Table(rows=tuple(rows), cost_column=cost_column)


def _check_header(path: Path, columns: Sequence[str]) -> str | None:
    """The column of costs, if there is one."""
    own = (TASK, SIZE, TOKENS, *COST_COLUMNS)
    from_csv.check_header(path, [name for name in columns if name not in own])
    # A misspelt column of costs would be ignored, and with it every run that never arrived.
    for name in columns:
        near = difflib.get_close_matches(name.strip().lower(), own, n=1, cutoff=0.85)
        if name not in own and near and near[0] not in columns:
            raise UserError(f"{path}: column {name!r} is not known: did you mean {near[0]!r}?")
    if TASK not in columns:
        raise UserError(
            f"{path}: there is no column 'task': name the task of every row, or use "
            "`optbench compare` for a table of one"
        )
    if repeated := sorted({name for name in own if columns.count(name) > 1}):
        raise UserError(f"{path}: column(s) {', '.join(repeated)} appear more than once")
    costs = [name for name in columns if name in COST_COLUMNS]
    # A misspelt one would be ignored, and with it every score.
    for name in columns if not costs else ():
        plain = name.strip().lower().replace(" ", "_")
        if near := difflib.get_close_matches(plain, COST_COLUMNS, 1, ALIKE):
            raise UserError(f"{path}: column {name!r} is not known: did you mean {near[0]!r}?")
    if len(costs) > 1:
        raise UserError(f"{path}: {' and '.join(costs)}: keep one of them, scores rest on one")
    return costs[0] if costs else None


def _row(
    record: dict[str, str], cost_column: str | None, *, line: int, mistakes: list[str]
) -> _Row | None:
    """One row of the confirmation, or None after its mistakes were noted."""
    if not from_csv.is_confirmation(record, line=line, mistakes=mistakes):
        return None
    found = len(mistakes)
    result = from_csv.result_row(record, line=line, mistakes=mistakes)
    task = (record[TASK] or "").strip()
    if not task or not task.isprintable():
        mistakes.append(f"line {line}: the task is empty or cannot be printed: name it")
    cost = _positive(record, cost_column, line, mistakes)
    if cost is not None and result is not None and not result.completed:
        mistakes.append(
            f"line {line}: {result.outcome}, yet it has a {cost_column}: leave it empty, a run "
            "that did not complete never arrives"
        )
    size, tokens = (_positive(record, name, line, mistakes) for name in (SIZE, TOKENS))
    if result is None or len(mistakes) > found:
        return None
    return _Row(line=line, task=task, result=result, cost=cost, size=size, tokens=tokens)


def _positive(
    record: dict[str, str], column: str | None, line: int, mistakes: list[str]
) -> float | None:
    text = (record.get(column) or "").strip() if column else ""
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value < math.inf:
        mistakes.append(
            f"line {line}: {column} {text[:40]!r} is not a positive number: correct it, or leave "
            "it empty" + ("" if column in (SIZE, TOKENS) else " where the run never arrived")
        )
        return None
    return value


def _check_tasks(path: Path, tasks: Mapping[str, Sequence[_Row]], names: Sequence[str]) -> None:
    if len(tasks) < MINIMUM_TASKS:
        raise UserError(
            f"{path} has one task: a suite has two or more, `optbench compare` serves one"
        )
    mistakes = []
    for task, rows in tasks.items():
        own = {row.result.variant for row in rows}
        if lacking := [name for name in names if name not in own]:
            mistakes.append(
                f"task {task!r} has no rows of {', '.join(lacking)}: add them (a run that did not "
                "complete is a row with its outcome), or leave the contestant out everywhere"
            )
        for column, values in (
            (SIZE, {row.size for row in rows}),
            (TOKENS, {row.tokens for row in _whole(rows)}),
        ):
            if len(values) > 1:
                mistakes.append(
                    f"task {task!r} has several values in the column {column!r}: give all of its "
                    "rows the same one"
                )
    from_csv.refuse(path, mistakes)
