"""One contestant on one task, with a verdict whose error is shared over all tasks.

A task's own analysis was made at alpha / T of T tasks, shared further among its K comparisons
(Bonferroni twice). So the intervals of all K T comparisons cover together at 1 - alpha, and the
chance of any false claim on any task is at most alpha, however the tasks depend on each other. The
adjusted p values are T times those of the task, so that they too compare with the suite's alpha.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.analysis.results import Comparison
from harness.analysis.stats.performance_profiles import performance_ratios
from harness.analysis.stats.ranks import task_ranks
from harness.analysis.stats.stratified import observed
from harness.analysis.stats.suite_scores import median_costs, order_values
from harness.analysis.stats.verdict import Decision
from harness.analysis.suite.results import TaskResult
from harness.analysis.suite.task_data import TaskData
from harness.analysis.wording import comparison_sentence


def task_results(
    task: TaskData, variants: Sequence[str], baseline: str, *, tasks: int
) -> tuple[TaskResult, ...]:
    """Every contestant on one task.

    Args:
        tasks: of the suite, unfinished ones included.
    """
    if task.why_not is not None:
        return tuple(_without_result(task.name, variant) for variant in variants)
    drawn = observed(task.stratum)
    ranks = task_ranks(order_values([drawn], variants)[0])[:, 0]
    costs = np.full(len(variants), np.inf)
    ratios = costs
    if drawn.costs is not None:
        both = median_costs([drawn], variants)[0]
        costs, ratios = both[:, 0], performance_ratios(both)[:, 0]
    return tuple(
        _result(
            task,
            variant,
            cost=_known(costs[i]),
            ratio=_known(ratios[i]),
            rank=float(ranks[i]),
            tasks=tasks,
            is_baseline=variant == baseline,
        )
        for i, variant in enumerate(variants)
    )


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _result(
    task: TaskData,
    variant: str,
    *,
    cost: float | None,
    ratio: float | None,
    rank: float,
    tasks: int,
    is_baseline: bool,
) -> TaskResult:
    runs = task.runs[variant]
    values = [run.value for run in runs if run.value is not None]
    comparison = None if is_baseline else _comparison(task, variant)
    return TaskResult(
        task=task.name,
        variant=variant,
        seeds=len(runs),
        completed=len(values),
        diverged=sum(run.outcome == "diverged" for run in runs),
        lost=len(runs) - len(values),
        mean_loss=sum(values) / len(values) if len(values) == len(runs) else None,
        difference=None if comparison is None else comparison.mean_difference,
        interval=None if comparison is None else comparison.interval,
        adjusted_p=None if comparison is None else min(1.0, tasks * comparison.adjusted_p),
        verdict=None if comparison is None else comparison.verdict,
        sentence=None if comparison is None else _sentence(task, comparison, tasks),
        cost=cost,
        ratio=ratio,
        rank=rank,
        speedup=None if is_baseline else task.speedup(variant),
        exploratory=comparison is not None and comparison.exploratory,
    )


def _comparison(task: TaskData, variant: str) -> Comparison | None:
    comparisons = () if task.analysis is None else task.analysis.comparisons
    return next((c for c in comparisons if c.variant == variant), None)


def _sentence(task: TaskData, comparison: Comparison, tasks: int) -> str:
    """As a comparison's own, its p values adjusted over all tasks."""

    def over_tasks(p: float | None) -> float | None:
        return None if p is None else min(1.0, tasks * p)

    assert task.analysis is not None, "a comparison comes from an analysis"
    family = tasks * len(task.analysis.comparisons)
    parts = [f"adjusted for {family}"] if family > 1 else []
    if comparison.look is not None:
        parts.append(f"look {comparison.look.number} of {comparison.look.of}")
    return comparison_sentence(
        variant=comparison.variant,
        baseline=comparison.baseline,
        decision=Decision(
            verdict=comparison.verdict,
            interval=comparison.interval,
            adjusted_p=min(1.0, tasks * comparison.adjusted_p),
            equivalence_p=over_tasks(comparison.equivalence_p),
            margin_p=over_tasks(comparison.margin_p),
        ),
        difference=comparison.mean_difference,
        correction=", ".join(parts),
        test=comparison.test,
        n=comparison.n,
        paired=comparison.paired,
        fragile=comparison.fragile,
        margin=task.analysis.margin,
        unit=task.unit,
    )


def _without_result(task: str, variant: str) -> TaskResult:
    return TaskResult(
        task=task,
        variant=variant,
        seeds=0,
        completed=0,
        diverged=0,
        lost=0,
        mean_loss=None,
        difference=None,
        interval=None,
        adjusted_p=None,
        verdict=None,
        sentence=None,
        cost=None,
        ratio=None,
        rank=None,
        speedup=None,
    )
