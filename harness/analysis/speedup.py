"""When a loss is first seen inside one schedule: the baseline's final one, or a fixed target.

A crossing is biased in a direction that depends on the schedule: 1.79 in the quickstart where the
baseline at other lengths gives 1.34. The speed-up to quote is in `horizon_speedup.py`.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.learning_curves import validation_loss
from harness.analysis.machines import seconds_compare
from harness.analysis.results import Comparison
from harness.analysis.stats.speedup import TargetSpeedup, cost_to_target, target_speedup
from harness.analysis.study_results import StudyResults
from harness.runs.snapshot import TrialSnapshot


@dataclass(frozen=True, kw_only=True)
class Speedup:
    """One variant's cost to reach the target, against the baseline's own cost.

    Every trial of a study has the same tokens in a step, so `steps` is the ratio of tokens as well.
    `seconds` counts steps times the trial's steady-state time of one step. Medians are over the
    seeds that arrived. All but `variant` and `why_not` are None where `why_not` has a reason;
    `seconds` also where `why_no_seconds` has one: runs that are compared had other hardware.
    """

    variant: str
    why_not: str | None = None
    steps: TargetSpeedup | None = None
    seconds: TargetSpeedup | None = None
    why_no_seconds: str | None = None
    median_steps: float | None = None
    median_tokens: float | None = None
    arrived: int = 0
    seeds: int = 0


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What one trial spent until it reached the target; None if it never did, or diverged later."""

    steps: float | None
    all_steps: int
    step_time_s: float | None
    tokens_per_step: float

    @property
    def seconds(self) -> float | None:
        if self.steps is None or self.step_time_s is None:
            return None
        return self.steps * self.step_time_s


def speedups(study: StudyResults, *, target: float | None = None) -> tuple[Speedup, ...]:
    """One entry for each comparison, in rank order; empty before there is an analysis.

    Args:
        target: a loss fixed in advance. None: the final loss of the baseline's run in each pair;
            without pairs the highest of the baseline's final losses, which all of its runs reach.

    The intervals of all variants hold together: alpha is shared among them.
    """
    found = (speedup_of(study, variant, target=target) for variant in study.ranked())
    return tuple(speedup for speedup in found if speedup is not None)


def speedup_of(study: StudyResults, variant: str, *, target: float | None = None) -> Speedup | None:
    """As `speedups`, of one variant; None where there is no comparison."""
    comparison = study.comparison(variant)
    return None if comparison is None else _speedup(study, comparison, target)


def _speedup(study: StudyResults, comparison: Comparison, target: float | None) -> Speedup:
    name = comparison.variant
    own, base = study.compared(name)
    ends = [trial.loss for trial in base if trial.loss is not None]
    if any(trial.loss is None and trial.state != "diverged" for trial in [*own, *base]):
        return Speedup(variant=name, why_not="a run ended without a result: it might have arrived")
    if target is None and len(ends) < len(base):
        return Speedup(
            variant=name, why_not=f"{study.baseline} lost a seed: no final loss to reach"
        )
    highest = max(ends) if target is None else target
    paired = comparison.paired
    targets = ends if target is None and paired else [highest] * len(base)
    steps = study.settings.training.steps
    runs = [_run(trial, goal, steps) for trial, goal in zip(own, targets, strict=True)]
    reference = [_run(trial, goal, steps) for trial, goal in zip(base, targets, strict=True)]
    if any(run.steps == 0.0 for run in [*runs, *reference]):
        return Speedup(variant=name, why_not="the target is met before the first step")
    arrived = [run.steps for run in runs if run.steps is not None]
    alike = seconds_compare(study, name)
    median = statistics.median(arrived) if arrived else None
    return Speedup(
        variant=name,
        steps=target_speedup(
            [run.steps for run in runs],
            [run.steps for run in reference],
            variant_budget=steps,
            baseline_budget=steps,
            paired=paired,
            level=study.shared_level,
        ),
        seconds=_in_seconds(runs, reference, paired=paired, level=study.shared_level)
        if alike
        else None,
        why_no_seconds=None if alike else OTHER_HARDWARE,
        median_steps=median,
        median_tokens=None if median is None else median * runs[0].tokens_per_step,
        arrived=len(arrived),
        seeds=len(runs),
    )


OTHER_HARDWARE = (
    "no time: not all of its runs and the baseline's had the same hardware to themselves"
)


def _run(trial: TrialSnapshot, target: float, all_steps: int) -> _Run:
    curve = validation_loss(trial) if trial.completed else {}
    assert trial.spec is not None, "a trial with an outcome has a spec"
    return _Run(
        steps=cost_to_target(list(curve), list(curve.values()), target=target) if curve else None,
        all_steps=all_steps,
        step_time_s=trial.step_time_s,
        tokens_per_step=trial.spec.tokens_per_step,
    )


def _in_seconds(
    runs: Sequence[_Run], reference: Sequence[_Run], *, paired: bool, level: float
) -> TargetSpeedup | None:
    """None where a trial measured no steady-state step."""
    budgets = [
        [run.all_steps * run.step_time_s for run in side if run.step_time_s is not None]
        for side in (runs, reference)
    ]
    if any(len(budget) < len(runs) for budget in budgets):
        return None
    return target_speedup(
        [run.seconds for run in runs],
        [run.seconds for run in reference],
        variant_budget=budgets[0],
        baseline_budget=budgets[1],
        paired=paired,
        level=level,
        unit="seconds of training",
    )
