"""Successive halving within each variant, never between two of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from harness.runs.folder import StudyFolder
from harness.runs.search_log import Event, Suggested
from harness.study.settings import AshaSettings
from harness.training.records import Report
from tune.gangs.trainable import LOSS, STEP
from tune.search.rounds import Round


@dataclass(frozen=True, kw_only=True)
class EarlierRun:
    """What a training run reported before this run of the driver."""

    key: str
    variant: str
    reports: Sequence[Report]


class HalvingWithinVariants:
    """One ASHA scheduler of Ray Tune for each variant.

    Args:
        steps: of a whole tuning trial; a trial that got this far is never stopped.
        earlier: runs that ended or were cut off before; their reports fill the rungs as they did
            then. A run is known by its key, so that what it reports again after a checkpoint does
            not count twice.
    """

    def __init__(
        self,
        settings: AshaSettings,
        *,
        steps: int,
        variants: Iterable[str],
        earlier: Iterable[EarlierRun],
    ) -> None:
        self.steps = steps
        self.by_variant = {
            name: AsyncHyperBandScheduler(
                time_attr=STEP,
                metric=LOSS,
                mode="min",
                max_t=steps,
                grace_period=math.ceil(steps * settings.grace_fraction),
                reduction_factor=settings.reduction_factor,
            )
            for name in variants
        }
        self.stopped_at: dict[str, int] = {}  # where a run was stopped that may not know it yet
        for run in earlier:
            trial = SimpleNamespace(config={"trial": {"key": run.key, "variant": run.variant}})
            self.on_trial_add(None, trial)
            stop = False
            for report in run.reports:
                action = self.on_trial_result(None, trial, result_of(report))
                stop = action == TrialScheduler.STOP
            if stop:
                self.stopped_at[run.key] = run.reports[-1].step

    def on_trial_add(self, controller: Any, trial: Any) -> None:
        asha, known = self._asha(trial)
        asha.on_trial_add(controller, known)

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        asha, known = self._asha(trial)
        step = result.get(STEP, self.steps)
        if step >= self.steps:
            return str(TrialScheduler.CONTINUE)
        if step >= self.stopped_at.get(known.trial_id, self.steps):
            return str(TrialScheduler.STOP)
        return str(asha.on_trial_result(controller, known, result))

    def _asha(self, trial: Any) -> tuple[AsyncHyperBandScheduler, Any]:
        """Who judges the trial, and the trial under the name that it has in every run."""
        config = trial.config["trial"]
        return self.by_variant[config["variant"]], SimpleNamespace(trial_id=config["key"])


def earlier_runs(folder: StudyFolder, events: Sequence[Event], current: Round) -> list[EarlierRun]:
    """The runs of this round that reported before, those that have ended first."""
    runs: dict[str, EarlierRun] = {}
    for event in events:
        if isinstance(event, Suggested) and event.round == current.index:
            for key in event.keys.values():
                reports = folder.trial(key).reports()
                run = EarlierRun(key=key, variant=event.variant, reports=reports)
                runs.setdefault(key, run)  # one that two variants share is the first one's
    return sorted(runs.values(), key=lambda run: folder.trial(run.key).outcome() is None)


def result_of(report: Report) -> dict[str, Any]:
    """What a scheduler reads; a non-finite loss is left out: such a trial ends by itself."""
    loss = {} if report.validation_loss is None else {LOSS: report.validation_loss}
    return {STEP: report.step, **loss}
