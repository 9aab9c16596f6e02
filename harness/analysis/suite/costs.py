"""What every run of a study spends until it reaches the task's target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.analysis.learning_curves import validation_loss
from harness.analysis.machines import seconds_compare
from harness.analysis.speedup import OTHER_HARDWARE
from harness.analysis.stats.speedup import cost_to_target
from harness.analysis.study_results import StudyResults
from harness.runs.snapshot import TrialSnapshot
from harness.study.suite_settings import SuiteSettings


@dataclass(frozen=True, kw_only=True)
class Costs:
    """By contestant and seed, None where a run never arrived. Empty where `why_not` has a reason.

    `target` is None where each seed has its own.
    """

    by_variant: Mapping[str, Mapping[int, float | None]]
    target: float | None = None
    in_words: str = ""
    why_not: str | None = None


def costs_of(study: StudyResults, settings: SuiteSettings, *, paired: bool) -> Costs:
    """In the suite's measure, for the runs in hand.

    With `target = "baseline"` the target of a seed is the final loss of the baseline's run of that
    seed, where runs are pairs and the baseline lost none; otherwise the highest final loss of the
    baseline, which all of its completed runs reach. A run that did not complete never arrives,
    whatever it had reached before.
    """
    if settings.measure == "time" and not all(
        seconds_compare(study, name) for name in study.challengers
    ):
        return Costs(by_variant={}, why_not=OTHER_HARDWARE)
    base = study.in_hand(study.baseline)
    ends = {trial.seed: trial.loss for trial in base if trial.loss is not None}
    target: float | None = None
    if settings.target == "given":
        target = study.settings.analysis.target
        words = "given in advance"
    elif not ends:
        why_not = f"no run of {study.baseline} completed: there is no loss to reach"
        return Costs(by_variant={}, why_not=why_not)
    elif paired and len(ends) == len(base):
        words = f"the final loss of {study.baseline}'s run of the same seed"
    else:
        target = max(ends.values())
        words = f"the highest final loss of {study.baseline}'s runs"
    found: dict[str, dict[int, float | None]] = {}
    for name in study.variants:
        trials = [t for t in study.in_hand(name) if target is not None or t.seed in ends]
        goals = {t.seed: ends[t.seed] if target is None else target for t in trials}
        found[name] = {t.seed: _cost(t, goals[t.seed], settings) for t in trials}
    spent = [cost for own in found.values() for cost in own.values() if cost is not None]
    if any(cost <= 0.0 for cost in spent):
        return Costs(by_variant={}, why_not="the target is met before the first step")
    if settings.measure == "time" and _untimed(study.in_hand(name) for name in study.variants):
        return Costs(by_variant={}, why_not="a run measured no steady-state step")
    return Costs(by_variant=found, target=target, in_words=words)


def _cost(trial: TrialSnapshot, target: float, settings: SuiteSettings) -> float | None:
    curve = validation_loss(trial)
    if not trial.completed or not curve:
        return None
    steps = cost_to_target(list(curve), list(curve.values()), target=target)
    if steps is None or settings.measure == "steps":
        return steps
    if settings.measure == "time":
        return None if trial.step_time_s is None else steps * trial.step_time_s
    assert trial.spec is not None, "a trial with an outcome has a spec"
    return steps * trial.spec.tokens_per_step


def _untimed(sides: Iterable[tuple[TrialSnapshot, ...]]) -> bool:
    return any(t.completed and t.step_time_s is None for side in sides for t in side)
