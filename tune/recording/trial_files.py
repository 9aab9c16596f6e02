"""What a recorder has on disk: all methods run in the writer's thread, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from harness.runs.attempts import AttemptBegan, AttemptEnded
from harness.runs.folder import TrialFolder
from harness.study.trial import TrialSpec
from harness.training.records import Outcome, Report


class HoldsTrials(Protocol):
    """The folder of a study, or that of a suite, where a trial is `TASK/TRIAL_KEY`."""

    @property
    def path(self) -> Path: ...
    def trial(self, key: str) -> TrialFolder: ...


class TrialFiles:
    """Writes into the folders of the trials, and knows how far each of them has come there."""

    def __init__(self, folder: HoldsTrials) -> None:
        self.folder = folder
        self.steps: dict[str, int] = {}  # of the last report
        self.last: dict[str, Report] = {}  # of this run

    def begin(self, key: str, spec: TrialSpec, event: AttemptBegan) -> None:
        trial = self.folder.trial(key)
        trial.begin(spec, event)
        self.steps[key] = max((report.step for report in trial.reports()), default=-1)

    def report(self, key: str, report: Report) -> bool:
        """A trial that goes on from a checkpoint reports steps again: the first report stays.

        Returns:
            whether it is new.
        """
        if report.step <= self.steps.get(key, -1):
            return False
        self.folder.trial(key).append(report)
        self.steps[key], self.last[key] = report.step, report
        return True

    def end_attempt(self, key: str, event: AttemptEnded) -> AttemptEnded:
        """Returns the event with the step that the trial is known to have reached."""
        step = max(event.step, self.steps.get(key, 0))
        event = event.model_copy(update={"step": step})
        self.folder.trial(key).append_attempt(event)
        return event

    def finish(self, key: str, outcome: Outcome, wall_time_s: float | None) -> Outcome:
        """Returns the outcome as it is written.

        Args:
            wall_time_s: since the trial began, for an outcome that does not tell its own.
        """
        self.steps.pop(key, None)
        last = self.last.pop(key, None)
        if outcome.wall_time_s is None and wall_time_s is not None:
            outcome = _as_far_as_it_came(outcome, last, wall_time_s)
        self.folder.trial(key).finish(outcome)
        return outcome

    def stops(self, keys: Iterable[str]) -> dict[str, str]:
        """Why, for those of the trials that somebody asked to stop."""
        asked = ((key, self.folder.trial(key).stop_requested()) for key in keys)
        return {key: why for key, why in asked if why is not None}

    def clear_stop(self, key: str) -> None:
        self.folder.trial(key).clear_stop()


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
