"""Writes down what comes back from the trials, before anybody hears of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ray import tune as ray_tune

from harness.runs.folder import StudyFolder
from harness.training.records import Outcome, Report
from tune.job import Job
from tune.trainable import OUTCOME, REPORT


class Observer(Protocol):
    """Told of everything after it is on disk."""

    def trial_started(self, job: Job) -> None: ...
    def trial_reported(self, key: str, report: Report) -> None: ...
    def trial_ended(self, key: str, outcome: Outcome) -> None: ...


class Recorder(ray_tune.Callback):  # type: ignore[misc]
    """Writes what trials yield into their folders, then tells the observers.

    Args:
        job_of: the job with a trial_key.
    """

    def __init__(
        self,
        folder: StudyFolder,
        *,
        job_of: Callable[[str], Job],
        observers: Sequence[Observer],
    ) -> None:
        self.folder, self.job_of, self.observers = folder, job_of, observers
        self.begun: dict[str, float] = {}  # of the trials that have no outcome yet
        self.last: dict[str, Report] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles callbacks for `Tuner.restore`, and we resume from our own files."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        job = self.job_of(trial.config["trial"]["key"])
        self.begun[job.key] = time.monotonic()
        self.folder.trial(job.key).start(job.spec)
        for observer in self.observers:
            observer.trial_started(job)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        key = trial.config["trial"]["key"]
        if REPORT in result:
            report = self.last[key] = Report.model_validate(result[REPORT])
            self.folder.trial(key).append(report)
            for observer in self.observers:
                observer.trial_reported(key, report)
        if OUTCOME in result:
            self._end(key, Outcome.model_validate(result[OUTCOME]))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """A trial that ends without an outcome of its own was stopped by the scheduler."""
        key = trial.config["trial"]["key"]
        if key in self.begun:
            reason = "stopped early: behind the other configurations of its variant"
            self._end(key, Outcome(outcome="stopped", reason=reason))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """The actor that holds the gang died: no worker could tell why."""
        reason = f"the trial's actor died: {trial.get_error()}"
        self._end(trial.config["trial"]["key"], Outcome(outcome="failed", reason=reason))

    def _end(self, key: str, outcome: Outcome) -> None:
        begun, last = self.begun.pop(key, None), self.last.pop(key, None)
        if outcome.wall_time_s is None and begun is not None:
            outcome = _as_far_as_it_came(outcome, last, time.monotonic() - begun)
        self.folder.trial(key).finish(outcome)
        for observer in self.observers:
            observer.trial_ended(key, outcome)


def _as_far_as_it_came(outcome: Outcome, last: Report | None, wall_time_s: float) -> Outcome:
    """What a stopped or failed trial spent, from its last report: the ledger counts it."""
    known: dict[str, Any] = {"wall_time_s": wall_time_s}
    if last is not None:
        known |= {"step": last.step, "tokens": last.tokens}
        if outcome.outcome == "stopped":
            known |= {
                "validation_loss": last.validation_loss,
                "validation_accuracy": last.validation_accuracy,
            }
    return outcome.model_copy(update=known)
