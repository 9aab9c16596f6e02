"""What happened on each task: verdicts, runs that were lost, ranks and costs."""

from __future__ import annotations

from harness.analysis.suite.results import SuiteAnalysis, TaskInfo, TaskResult
from harness.report import numbers
from harness.report.elements import Column, Table, left, right, table
from harness.report.suite.material import percent, ranked
from harness.report.suite.values import INSIDE, lost_words, speedup, tone, verdict_cell


def verdict_matrix(analysis: SuiteAnalysis) -> Table:
    """Contestants down, tasks across: sign, difference and family-wise interval."""
    names = [name for name in ranked(analysis) if name != analysis.baseline]
    tasks = [task.task for task in analysis.tasks]
    results = [[analysis.result(task, name) for task in tasks] for name in names]
    tones = {
        (row, column + 1): found
        for row, own in enumerate(results)
        for column, result in enumerate(own)
        if (found := tone(result)) is not None
    }
    return table(
        "Verdicts",
        [*left("contestant"), *(Column(title=task, align="left") for task in tasks)],
        [
            [name, *(verdict_cell(result) for result in own)]
            for name, own in zip(names, results, strict=True)
        ],
        note=f"Loss minus that of {analysis.baseline}, with the interval that the verdict is read "
        f"from; over all contestants and tasks they hold together at {percent(analysis)}. "
        "▼ better, ▲ worse, = equivalent, ? inconclusive, two signs: by the margin. Where a run "
        "was lost there is no mean and the verdict is one of ranks.",
        tones=tones,
    )


def lost(analysis: SuiteAnalysis) -> Table | None:
    """Every task on which a contestant lost runs, whatever its verdict."""
    rows = [
        (r.task, r.variant, lost_words(r), r.verdict or numbers.MISSING, _rank(r))
        for r in analysis.results
        if r.lost
    ]
    columns = [*left("task", "contestant", "lost runs", "verdict"), *right("rank on the task")]
    return table("Tasks on which runs were lost", columns, rows, note=LOST_NOTE) if rows else None


LOST_NOTE = (
    "A run that diverged, failed or ran out of memory counts as the worst result of its task: it "
    "never reaches the target, and its contestant ranks behind all that completed every run."
)


def task_table(analysis: SuiteAnalysis, task: TaskInfo) -> Table:
    """Every contestant on one task, the best first."""
    own = [analysis.result(task.task, name) for name in analysis.variants]
    own.sort(key=lambda result: (result.rank is None, result.rank or 0.0))
    costs = bool(task.target_in_words)
    columns = [*right("rank"), *left("contestant")]
    columns += right("mean loss", "difference", "interval", "p")
    columns += [*left("verdict"), *right(*[analysis.measure_in_words, "× fastest"] * costs)]
    columns += [*right("speed-up"), *left("lost runs")]
    rows = [
        [
            _rank(r),
            r.variant,
            numbers.loss(r.mean_loss),
            numbers.difference(r.difference),
            numbers.interval(r.interval),
            numbers.probability(r.adjusted_p),
            _verdict(analysis, r),
            *([_cost(r), numbers.decimal(r.ratio)] if costs else []),
            speedup(r.speedup),
            lost_words(r) or f"none of {r.seeds}",
        ]
        for r in own
    ]
    return table(
        f"{task.task}: results",
        columns,
        rows,
        strong_rows=frozenset(i for i, r in enumerate(own) if r.variant == analysis.baseline),
        note=f"Speed-up with {INSIDE}."
        if any(r.speedup is not None and r.speedup.source == "inside a run" for r in own)
        else "",
        tones={(i, 6): found for i, r in enumerate(own) if (found := tone(r)) is not None},
    )


def _verdict(analysis: SuiteAnalysis, result: TaskResult) -> str:
    if result.verdict is None:
        return "baseline" if result.variant == analysis.baseline else "none yet"
    return result.verdict + (", exploratory" if result.exploratory else "")


def _rank(result: TaskResult) -> str:
    return numbers.MISSING if result.rank is None else f"{result.rank:g}"


def _cost(result: TaskResult) -> str:
    return "not reached" if result.cost is None else numbers.quantity(result.cost)
