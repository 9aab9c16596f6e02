"""All that a report is made from, read once from the study's folder and frozen."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.config import Phase
from harness.results import Outcome, OutcomeWord, PlannedTrial, Report, StudyFolder, read_json
from harness.study import Plan, load_plan
from harness.tuning import Tuning
from harness.tuning import load as load_tuning

OUTCOMES: tuple[OutcomeWord, ...] = (
    "completed",
    "stopped",
    "diverged",
    "failed",
    "out_of_memory",
)


@dataclass(frozen=True, kw_only=True)
class TrialView:
    """One row of the plan with what its folder holds."""

    planned: PlannedTrial
    spec: dict[str, Any]
    reports: tuple[Report, ...]
    outcome: Outcome | None

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
    def state(self) -> str:
        """The outcome's word, or how far a trial without an outcome has come."""
        if self.outcome is not None:
            return self.outcome.outcome
        return "running" if self.reports else "not started"

    @property
    def loss(self) -> float | None:
        """Final validation loss in nats of a completed trial; any other trial has none."""
        return self.outcome.validation_loss if self.completed and self.outcome else None

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
class StudyView:
    """A study as its files tell it."""

    folder: StudyFolder
    plan: Plan
    trials: tuple[TrialView, ...]
    analysis: dict[str, Any] | None
    environment: dict[str, Any] | None
    data: dict[str, Any] | None
    tuning: Tuning | None = None

    @property
    def study(self) -> dict[str, Any]:
        return self.plan.study

    @property
    def name(self) -> str:
        return str(self.study["name"])

    @property
    def baseline(self) -> str:
        return str(self.study["analysis"]["baseline"])

    @property
    def variants(self) -> tuple[str, ...]:
        """Names in the order of the study file."""
        return tuple(str(variant["name"]) for variant in self.study["variants"])

    @property
    def level(self) -> float:
        """Coverage of every interval: 1 - alpha."""
        return 1.0 - float(self.study["analysis"].get("alpha", 0.05))

    @property
    def percent(self) -> str:
        return f"{100 * self.level:.4g} %"

    @property
    def challengers(self) -> tuple[str, ...]:
        return tuple(name for name in self.variants if name != self.baseline)

    def settings(self, variant: str) -> dict[str, Any]:
        """The variant's table of the study file."""
        return next(table for table in self.study["variants"] if table["name"] == variant)

    def of(self, variant: str, phase: Phase = "confirmation") -> tuple[TrialView, ...]:
        return tuple(
            trial
            for trial in self.trials
            if trial.variant == variant and trial.planned.phase == phase
        )

    @property
    def confirmation(self) -> tuple[TrialView, ...]:
        return tuple(trial for trial in self.trials if trial.planned.phase == "confirmation")

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that measure; also while a search has not yet come to them."""
        return tuple(int(seed) for seed in self.study["seeds"]["confirmation"])

    @property
    def finished(self) -> int:
        """Number of planned confirmation rows that have an outcome."""
        return sum(trial.outcome is not None for trial in self.confirmation)

    @property
    def complete(self) -> bool:
        """Whether nothing is left to train: with looks, decided variants need no more seeds."""
        if not self.confirmation:
            return False  # the search is not over
        if self.study["analysis"].get("looks") and self.comparisons:
            return all(item["look"]["next_look"] is None for item in self.comparisons)
        return self.finished == len(self.confirmation)

    @property
    def comparisons(self) -> list[dict[str, Any]]:
        """The analysed comparisons; see docs/reference/compare-json.md for their fields."""
        return list((self.analysis or {}).get("comparisons", []))

    @property
    def targets(self) -> list[dict[str, Any]]:
        return list((self.analysis or {}).get("targets", []))

    def comparison(self, variant: str) -> dict[str, Any] | None:
        return next((item for item in self.comparisons if item["variant"] == variant), None)

    def compared(self, variant: str) -> tuple[list[TrialView], list[TrialView]]:
        """The trials that the variant's comparison rests on and those of the baseline, by seed."""
        comparison = self.comparison(variant)
        if comparison is None:
            return [], []
        # As harness.looks reads them: the first n seeds of both sides.
        return self._first(variant, comparison["n"]), self._first(self.baseline, comparison["n"])

    def _first(self, variant: str, n: int) -> list[TrialView]:
        summary, by_seed = self.summary(variant), {t.seed: t for t in self.of(variant)}
        return [by_seed[seed] for seed in sorted(summary["seeds"] if summary else ())[:n]]

    def summary(self, variant: str) -> dict[str, Any] | None:
        summaries: list[dict[str, Any]] = (self.analysis or {}).get("variants", [])
        return next((item for item in summaries if item["variant"] == variant), None)

    def distinct(self) -> tuple[TrialView, ...]:
        """Each training run once, though two variants may share it."""
        return tuple({trial.key: trial for trial in reversed(self.trials)}.values())[::-1]

    def losses(self, variant: str) -> dict[int, float]:
        """Final validation loss by seed, of the completed trials."""
        return {trial.seed: trial.loss for trial in self.of(variant) if trial.loss is not None}

    def ranked(self) -> tuple[str, ...]:
        """Variants from the lowest to the highest mean loss.

        A variant that lost a seed has no mean, because that of its survivors is not comparable. It
        stands behind those that have one, by its median with lost seeds as the worst; variants
        without even that come last.
        """

        def order(variant: str) -> tuple[bool, bool, float]:
            mean, median = self._centre(variant)
            return median is None, mean is None, mean if mean is not None else median or 0.0

        return tuple(sorted(self.variants, key=order))

    def _centre(self, variant: str) -> tuple[float | None, float | None]:
        """Mean and median, as analysed or, before that, of what is finished."""
        if (summary := self.summary(variant)) is not None:
            return summary["mean"], summary["median"]
        finished = [trial for trial in self.of(variant) if trial.outcome is not None]
        losses = [math.inf if trial.loss is None else trial.loss for trial in finished]
        median = statistics.median(losses) if losses else math.inf
        if not math.isfinite(median):
            return None, None
        return (statistics.fmean(losses) if max(losses) < math.inf else None), median

    def twins(self, variant: str) -> tuple[str, ...]:
        """Other variants with the same settings: they share the training runs."""
        keys = {trial.key for trial in self.of(variant)}
        return tuple(
            other
            for other in self.variants
            if other != variant and keys and keys == {trial.key for trial in self.of(other)}
        )


def load_view(folder: StudyFolder) -> StudyView:
    """Reads the folder.

    Raises:
        UserError: no plan there, or one that was changed by hand.
    """
    plan = load_plan(folder)
    return StudyView(
        folder=folder,
        plan=plan,
        trials=tuple(_load_trial(folder, planned) for planned in plan.trials),
        analysis=_optional_json(folder, "analysis.json"),
        environment=_optional_json(folder, "environment.json"),
        data=_optional_json(folder, "data.json"),
        tuning=load_tuning(folder),
    )


def _load_trial(folder: StudyFolder, planned: PlannedTrial) -> TrialView:
    trial = folder.trial(planned.key)
    spec_path = trial.path / "spec.json"
    return TrialView(
        planned=planned,
        spec=read_json(spec_path) if spec_path.exists() else {},
        reports=tuple(trial.reports()),
        outcome=trial.outcome(),
    )


def _optional_json(folder: StudyFolder, name: str) -> dict[str, Any] | None:
    path = folder.path / name
    return read_json(path) if path.exists() else None


def mean_of(
    trials: Sequence[TrialView], value: Callable[[TrialView], float | None]
) -> float | None:
    """Mean of `value` over the trials that have one."""
    values = [number for trial in trials if (number := value(trial)) is not None]
    return statistics.fmean(values) if values else None
