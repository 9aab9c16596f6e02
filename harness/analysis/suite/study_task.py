"""From the results of a task's study to what the analysis of its suite reads."""

from __future__ import annotations

from collections.abc import Mapping

from harness.analysis.horizon_speedup import horizon_speedups
from harness.analysis.speedup import speedup_of
from harness.analysis.stats.between_lengths import SpeedupBetween
from harness.analysis.stats.data_efficiency import DataEfficiency
from harness.analysis.stats.speedup import SpeedupKind, TargetSpeedup
from harness.analysis.study_analysis import UNIT, why_no_analysis
from harness.analysis.study_results import StudyResults
from harness.analysis.suite.costs import Costs, costs_of
from harness.analysis.suite.results import Speedup, SpeedupSource
from harness.analysis.suite.task_data import TaskData, TaskRun
from harness.errors import UserError
from harness.runs.suite_folder import PlannedTask
from harness.study.suite_settings import SuiteSettings


def task_of_study(planned: PlannedTask, study: StudyResults, settings: SuiteSettings) -> TaskData:
    """One task with its runs, as far as they are analysed."""
    if study.analysis is None:
        return TaskData(
            name=planned.name,
            active_parameters=planned.active_parameters,
            tokens=planned.tokens,
            size=planned.size,
            length=planned.length,
            why_not=study.error or why_no_analysis(study) or "it is not analysed yet",
        )
    paired = bool(study.comparisons) and all(c.paired for c in study.comparisons)
    costs = costs_of(study, settings, paired=paired)
    search = study.search
    return TaskData(
        name=planned.name,
        active_parameters=planned.active_parameters,
        tokens=planned.tokens,
        size=planned.size,
        length=planned.length,
        unit=UNIT,
        runs={name: _runs(study, name, costs) for name in study.variants},
        analysis=study.analysis,
        paired=paired,
        has_costs=costs.why_not is None,
        why_no_costs=costs.why_not,
        target=costs.target,
        target_in_words=costs.in_words,
        speedups=_speedups(study, settings),
        searches={} if search is None else search.variants,
        interim=not study.complete and not study.settings.analysis.looks,
        note=None
        if study.complete
        else f"{study.finished} of {len(study.confirmation)} runs have ended",
    )


def _runs(study: StudyResults, variant: str, costs: Costs) -> tuple[TaskRun, ...]:
    own = costs.by_variant.get(variant, {})
    return tuple(
        TaskRun(
            seed=trial.seed,
            value=trial.loss,
            outcome=trial.outcome.outcome if trial.outcome else "failed",
            cost=own.get(trial.seed),
        )
        for trial in sorted(study.in_hand(variant), key=lambda trial: trial.seed)
    )


def _speedups(
    study: StudyResults, settings: SuiteSettings
) -> Mapping[SpeedupSource, Mapping[str, Speedup]]:
    target = study.settings.analysis.target if settings.target == "given" else None
    inside: dict[str, Speedup] = {}
    for variant in study.challengers:
        found = speedup_of(study, variant, target=target)
        if found is None:
            continue
        result = found.seconds if settings.measure == "time" else found.steps
        why_not = found.why_not or (found.why_no_seconds if settings.measure == "time" else None)
        inside[variant] = (
            unknown_speedup("inside a run", why_not or "not measured", level=study.shared_level)
            if result is None
            else target_speedup_as(result, source="inside a run")
        )
    return {"horizons": _horizons(study), "inside a run": inside}


def target_speedup_as(result: TargetSpeedup, *, source: SpeedupSource) -> Speedup:
    """The statistics' own record as one of the suite's."""
    return Speedup(
        source=source,
        kind=result.kind,
        value=result.ratio,
        low=result.low,
        high=result.high,
        level=result.level,
        why_not=result.statement if result.ratio is None else None,
    )


def unknown_speedup(source: SpeedupSource, why_not: str, *, level: float) -> Speedup:
    return Speedup(
        source=source,
        kind="undetermined",
        value=None,
        low=None,
        high=None,
        level=level,
        why_not=why_not,
    )


def _horizons(study: StudyResults) -> dict[str, Speedup]:
    try:
        found = horizon_speedups(study)
    except UserError:  # fewer lengths than a law needs
        return {}
    speedups = {}
    for item in found:
        result = item.result
        if result is None:
            why_not = item.why_not or "no law fits"
            speedups[item.variant] = unknown_speedup("horizons", why_not, level=study.shared_level)
            continue
        speedups[item.variant] = Speedup(
            source="horizons",
            kind=_kind(result),
            value=result.speedup,
            low=result.low,
            high=result.high,
            level=result.level,
            why_not=None if result.speedup is not None else result.note or "beyond the baseline",
            extrapolated=isinstance(result, DataEfficiency) and result.extrapolated,
        )
    return speedups


def _kind(result: DataEfficiency | SpeedupBetween) -> SpeedupKind:
    if result.speedup is not None:
        return "about"
    if (result.low is None) == (result.high is None):
        return "undetermined"
    return "at most" if result.low is None else "at least"
