"""All that a study's folder holds, read once and frozen: every trial with what became of it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from harness.runs.attempts import AttemptEvent
from harness.runs.folder import StudyFolder
from harness.runs.plan_changes import Addition, Amendment
from harness.runs.plan_file import frozen_settings, load_plan
from harness.runs.reading import MADE_AGAIN, exists, read_values
from harness.runs.search_log import Event, SearchLog, Suggested
from harness.study.plan import Phase, Plan, PlannedTrial
from harness.study.study_file import Study, VariantConfig, find_variant
from harness.study.trial import TrialSpec
from harness.training.records import Outcome, OutcomeWord, Report

State = OutcomeWord | Literal["running", "waiting"]


@dataclass(frozen=True, kw_only=True)
class TrialSnapshot:
    """One row of the plan with what its folder holds; `spec` is None before it was started.

    `attempts` are as they were written; `harness.runs.attempt_story` tells them.
    """

    planned: PlannedTrial
    spec: TrialSpec | None
    reports: tuple[Report, ...]
    outcome: Outcome | None
    attempts: tuple[AttemptEvent, ...] = ()

    @property
    def variant(self) -> str:
        return self.planned.variant

    @property
    def seed(self) -> int:
        return self.planned.seed

    @property
    def key(self) -> str:
        return self.planned.key

    @property
    def last(self) -> Report | None:
        return self.reports[-1] if self.reports else None

    @property
    def completed(self) -> bool:
        return self.outcome is not None and self.outcome.outcome == "completed"

    @property
    def state(self) -> State:
        """The outcome's word, or how far a trial without an outcome has come."""
        if self.outcome is not None:
            return self.outcome.outcome
        return "running" if self.reports else "waiting"

    @property
    def loss(self) -> float | None:
        """Final validation loss in nats of a completed trial; any other trial has none."""
        return self.outcome.validation_loss if self.completed and self.outcome else None

    @property
    def leaked_loss(self) -> float | None:
        """Final loss in nats on windows of the training text, where it was measured."""
        return self.last.leaked_loss if self.completed and self.last else None

    @property
    def tokens_per_s(self) -> float | None:
        """Median over the reports: one slow stretch of the machine does not move it."""
        speeds = [report.tokens_per_s for report in self.reports if report.tokens_per_s is not None]
        return statistics.median(speeds) if speeds else None

    @property
    def step_time_s(self) -> float | None:
        """Median over the reports of the mean step time."""
        times = [report.step_time_s for report in self.reports if report.step_time_s is not None]
        return statistics.median(times) if times else None


@dataclass(frozen=True, kw_only=True)
class StudySnapshot:
    """A study as its files tell it.

    `plan.study` holds the settings exactly as they were frozen, `settings` the same validated.
    """

    folder: StudyFolder
    plan: Plan
    settings: Study
    trials: tuple[TrialSnapshot, ...]
    search_events: tuple[Event, ...]
    amendments: tuple[Amendment, ...]
    environment: dict[str, Any] | None
    data: dict[str, Any] | None
    additions: tuple[Addition, ...] = ()

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def baseline(self) -> str:
        return self.settings.analysis.baseline

    @cached_property
    def variants(self) -> tuple[str, ...]:
        """Names in the order of the study file."""
        return tuple(variant.name for variant in self.settings.variants)

    @property
    def challengers(self) -> tuple[str, ...]:
        return tuple(name for name in self.variants if name != self.baseline)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that measure; also while a search has not yet come to them."""
        return self.settings.seeds.confirmation

    def variant(self, name: str) -> VariantConfig:
        """The variant's table of the study file."""
        return find_variant(self.settings, name)

    @cached_property
    def _by_variant(self) -> dict[tuple[str, Phase], tuple[TrialSnapshot, ...]]:
        groups: dict[tuple[str, Phase], list[TrialSnapshot]] = {}
        for trial in self.trials:
            groups.setdefault((trial.variant, trial.planned.phase), []).append(trial)
        return {place: tuple(trials) for place, trials in groups.items()}

    def of(self, variant: str, phase: Phase = "confirmation") -> tuple[TrialSnapshot, ...]:
        return self._by_variant.get((variant, phase), ())

    @cached_property
    def confirmation(self) -> tuple[TrialSnapshot, ...]:
        return tuple(trial for trial in self.trials if trial.planned.phase == "confirmation")

    @property
    def finished(self) -> int:
        """Number of planned confirmation rows that have an outcome."""
        return sum(trial.outcome is not None for trial in self.confirmation)

    def whole_seeds(self) -> tuple[int, ...]:
        """Seeds at which every variant has an outcome."""
        ended = {(trial.variant, trial.seed) for trial in self.confirmation if trial.outcome}
        return tuple(s for s in self.seeds if all((v, s) in ended for v in self.variants))

    def distinct(self) -> tuple[TrialSnapshot, ...]:
        """Each training run once, though two variants may share it."""
        return tuple({trial.key: trial for trial in reversed(self.trials)}.values())[::-1]

    def losses(self, variant: str) -> dict[int, float]:
        """Final validation loss by seed, of the completed trials."""
        return {trial.seed: trial.loss for trial in self.of(variant) if trial.loss is not None}

    def losses_by_length(self, variant: str) -> dict[int, dict[int, float]]:
        """As `losses`, at every length in steps at which the variant was to be trained.

        Each length has an entry, also where nothing completed.
        """
        lengths = {self.settings.training.steps: self.losses(variant)}
        for trial in self.of(variant, "horizon"):
            assert trial.planned.steps is not None, "a horizon has a length"
            own = lengths.setdefault(trial.planned.steps, {})
            if trial.loss is not None:
                own[trial.seed] = trial.loss
        return dict(sorted(lengths.items()))

    def trial_names(self) -> dict[PlannedTrial, str]:
        """What a person calls each row of the plan; a point that was drawn twice is one run."""
        searched = {
            key: f"{event.variant} {event.detail(seed)}"
            for event in reversed(self.search_events)
            if isinstance(event, Suggested)
            for seed, key in event.keys.items()
        }
        return {
            row: searched[row.key] if row.phase == "tuning" else f"{row.variant} {row.detail}"
            for row in self.plan.trials
        }

    def twins(self, variant: str) -> tuple[str, ...]:
        """Other variants with the same settings: they share the training runs."""
        return tuple(
            other
            for names in self.plan.twins()
            if variant in names
            for other in names
            if other != variant
        )


def load_snapshot(folder: StudyFolder) -> StudySnapshot:
    """Reads the folder.

    Raises:
        UserError: no plan there, one that was changed by hand, or a file that is damaged.
    """
    plan = load_plan(folder)
    return StudySnapshot(
        folder=folder,
        plan=plan,
        settings=frozen_settings(folder, plan),
        trials=tuple(_load_trial(folder, planned) for planned in plan.trials),
        search_events=tuple(SearchLog(folder.path).events()),
        amendments=tuple(folder.amendments()),
        additions=tuple(folder.additions()),
        environment=_optional_json(folder, "environment.json"),
        data=_optional_json(folder, "data.json"),
    )


def _load_trial(folder: StudyFolder, planned: PlannedTrial) -> TrialSnapshot:
    trial = folder.trial(planned.key)
    reports, outcome = trial.results()
    return TrialSnapshot(
        planned=planned,
        spec=trial.spec(),
        reports=tuple(reports),
        outcome=outcome,
        attempts=tuple(trial.attempts()),
    )


def _optional_json(folder: StudyFolder, name: str) -> dict[str, Any] | None:
    path = folder.path / name
    return read_values(path, MADE_AGAIN) if exists(path) else None
