"""From the tasks of a suite to its analysis. Pure: values in, one frozen result out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.analysis.stats.ranks import FEW_TASKS, critical_difference, friedman, not_separated
from harness.analysis.stats.stratified import Stratum, observed
from harness.analysis.stats.suite_scores import mean_ranks, order_values
from harness.analysis.suite.hyperparameters import hyperparameter_scaling
from harness.analysis.suite.leaderboard import leaderboard, profiles, score_tasks
from harness.analysis.suite.results import Axis, RankComparison, SuiteAnalysis, TaskInfo
from harness.analysis.suite.scaling import placed, speedup_scaling
from harness.analysis.suite.task_data import TaskData
from harness.analysis.suite.verdicts import task_results
from harness.study.suite_settings import SuiteSettings

MEASURE_WORDS = {
    "steps": "steps to the target",
    "tokens": "tokens to the target",
    "time": "seconds of training to the target",
}


def analyse_tasks(
    name: str,
    tasks: Sequence[TaskData],
    settings: SuiteSettings,
    *,
    variants: Sequence[str],
    baseline: str,
    larger: Mapping[Axis, float] | None = None,
) -> SuiteAnalysis:
    """Judges the contestants over all tasks.

    Args:
        tasks: all of the suite, those without a result too; their analyses were made at
            `settings.alpha / len(tasks)`.
        variants: the contestants, the baseline among them; every task with a result has runs of
            all of them.
        larger: sizes that scaling is extrapolated to; left out: ten times the largest task.
    """
    done = [task for task in tasks if task.why_not is None]
    on_axes = placed(done)
    strata = [task.stratum for task in done]
    level = 1.0 - settings.alpha
    results = tuple(
        result
        for task in tasks
        for result in task_results(task, variants, baseline, tasks=len(tasks))
    )
    challengers = [variant for variant in variants if variant != baseline]
    counted = {task.name for task in done}
    units = {task.unit for task in done}
    return SuiteAnalysis(
        name=name,
        settings=settings,
        baseline=baseline,
        variants=tuple(variants),
        measure_in_words=MEASURE_WORDS[settings.measure],
        tasks=tuple(_info(task, baseline) for task in tasks),
        results=results,
        leaderboard=leaderboard(
            score_tasks(strata, variants, baseline, settings),
            [result for result in results if result.task in counted],
            variants,
            baseline,
            one_unit=len(units) == 1,
        )
        if done
        else (),
        ordered_by="score" if any(task.has_costs for task in done) else "mean rank",
        profiles=profiles(strata, variants, settings),
        ranks=compare_ranks(strata, variants, alpha=settings.alpha),
        speedups=speedup_scaling(on_axes, challengers, level=level, larger=larger),
        hyperparameters=hyperparameter_scaling(on_axes, variants, level=level, larger=larger),
        notes=tuple(_notes(tasks, done, settings, challengers, baseline)),
    )


def _info(task: TaskData, baseline: str) -> TaskInfo:
    runs = task.runs.get(baseline, ())
    cost = None
    if task.has_costs:
        costs = task.stratum.costs
        assert costs is not None, "a task with costs has them for every run"
        median = float(np.median(costs[baseline]))
        cost = median if np.isfinite(median) else None
    notes = [text for text in (task.note, task.why_no_costs) if text]
    return TaskInfo(
        task=task.name,
        active_parameters=task.active_parameters,
        tokens=task.tokens,
        size=task.size,
        length=task.length,
        seeds=len(runs),
        paired=task.paired,
        unit=task.unit,
        target=task.target,
        target_in_words=task.target_in_words,
        baseline_cost=cost,
        why_not=task.why_not,
        note="; ".join(notes) or None,
    )


def compare_ranks(
    strata: Sequence[Stratum], variants: Sequence[str], *, alpha: float
) -> RankComparison:
    """Average ranks over the tasks, by mean loss, and which contestants they do not separate."""
    n, k = len(strata), len(variants)
    if n == 0:
        return _unseparated(0, {}, "no task has a result yet")
    drawn = [observed(stratum) for stratum in strata]
    values = order_values(drawn, variants)
    means = dict(zip(variants, map(float, mean_ranks(values)[0]), strict=True))
    if k < 3:
        reason = "ranks of two contestants say less than the verdicts of the tasks"
        return _unseparated(n, means, reason)
    if n < 2:
        return _unseparated(n, means, "average ranks need two tasks or more")
    test = friedman(values[0])
    difference = critical_difference(k, n, alpha=alpha)
    groups = not_separated(list(means.values()), difference=difference)
    notes = []
    if n < FEW_TASKS:
        notes.append(
            f"{n} tasks are too few for ranks: below {FEW_TASKS} Friedman's test is rough and "
            "hardly anything can be separated; read the verdicts of the tasks"
        )
    if difference > k - 1:
        notes.append(
            f"even the largest possible difference of mean ranks, {k - 1}, is below the critical "
            f"one, {difference:.2f}: nothing can be separated"
        )
    return RankComparison(
        tasks=n,
        mean_ranks=means,
        friedman_statistic=test.statistic,
        friedman_p=test.p,
        critical_difference=difference,
        groups=tuple(tuple(variants[index] for index in group) for group in groups),
        why_not=None,
        note="; ".join(notes) or None,
    )


def _unseparated(tasks: int, means: dict[str, float], why_not: str) -> RankComparison:
    return RankComparison(
        tasks=tasks,
        mean_ranks=means,
        friedman_statistic=None,
        friedman_p=None,
        critical_difference=None,
        groups=(),
        why_not=why_not,
        note=None,
    )


def _notes(
    tasks: Sequence[TaskData],
    done: Sequence[TaskData],
    settings: SuiteSettings,
    challengers: Sequence[str],
    baseline: str,
) -> list[str]:
    """What all of it together promises, and what is missing."""
    level = f"{100 * (1.0 - settings.alpha):.4g} %"
    family = len(tasks) * len(challengers)
    notes = [
        f"difference = contestant - {baseline}, lower is better; the verdicts of {len(tasks)} "
        f"tasks on {', '.join(challengers)} hold together ({family} in all): the chance of any "
        f"false one is at most {settings.alpha:g}"
        if challengers
        else f"{baseline} is alone: there is nothing to compare, and no verdict"
    ]
    late = [
        task.name
        for task in done
        if task.analysis is not None and any(c.exploratory for c in task.analysis.comparisons)
    ]
    if late:
        notes.append(
            f"exploratory on {', '.join(late)}: seeds were added there after results could be "
            "seen, so the verdicts do not keep that promise"
        )
    if interim := [task.name for task in done if task.interim]:
        notes.append(
            f"not the planned result on {', '.join(interim)}: planned runs are missing there, and "
            "to stop because of what the others show would make false verdicts more frequent"
        )
    if waiting := [task.name for task in tasks if task.why_not is not None]:
        notes.append(f"no result yet on {', '.join(waiting)}: not counted anywhere")
    if not done:
        return notes
    notes.append(
        f"intervals of scores hold at {level} each, for new seeds on these very tasks; another "
        "task may differ from all of them"
    )
    timed = [task for task in done if task.has_costs]
    if timed:
        notes.append(
            f"score = area under the performance profile of {MEASURE_WORDS[settings.measure]}, up "
            f"to {settings.largest_ratio:g} times the fastest; it depends on who takes part"
        )
        if len(timed) < len(done):
            lacking = [task.name for task in done if not task.has_costs]
            notes.append(f"no costs on {', '.join(lacking)}: left out of profiles and scores")
    else:
        notes.append("no task has costs to a target: the order is that of the mean rank")
    if any(run.value is None for task in done for own in task.runs.values() for run in own):
        notes.append(
            "a run that did not complete never reaches a target and ends above every other; "
            "a contestant that lost one ranks behind those that lost none"
        )
    return notes
