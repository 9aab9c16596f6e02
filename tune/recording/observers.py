"""Who is told of what trials yield, once it is on disk: the observers, and the breaker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from harness.errors import StudyStopped
from harness.runs.attempts import FAILURES, AttemptEnded
from harness.training.records import Outcome, Report
from tune.job import Job
from tune.recording.breaker import Breaker


class Observer(Protocol):
    """Told of everything after it is on disk, in the thread of Tune's loop.

    A trial is named by its `Job.id`, which is its trial_key where one study is trained alone.
    """

    def trial_started(self, job: Job) -> None: ...
    def trial_reported(self, key: str, report: Report) -> None: ...
    def attempt_failed(self, key: str, cause: str) -> None: ...
    def trial_ended(self, key: str, outcome: Outcome) -> None: ...
    def trial_given_up(self, key: str, cause: str) -> None: ...


class Told:
    """Passes on what is written, and keeps what follows from it.

    Args:
        breaker: told of every attempt; while it waits for the first step of any trial, no trial
            that failed before its own has an outcome.
    """

    def __init__(self, observers: Sequence[Observer], breaker: Breaker) -> None:
        self.observers, self.breaker = observers, breaker
        self.fault: Exception | None = None  # why no trial of this run can go on
        self._waiting: list[tuple[Outcome, Callable[[], None]]] = []  # for any first step

    def started(self, job: Job) -> None:
        for observer in self.observers:
            observer.trial_started(job)

    def reported(self, key: str, report: Report, is_new: bool) -> None:
        """Where something trains, what failed before its first step failed by itself."""
        if report.step > 0:
            self.breaker.trained()
            while self._waiting:
                _, finish = self._waiting.pop(0)
                finish()
        for observer in self.observers if is_new else ():
            observer.trial_reported(key, report)

    def attempt_ended(self, job: Job, event: AttemptEnded) -> None:
        if event.end not in FAILURES:
            return
        self.breaker.failed(job.variants[0], event)
        for observer in self.observers:
            observer.attempt_failed(job.id, event.cause)
        if (cause := self.breaker.fault()) is not None:
            self.fault = systemic(cause)

    def failed(self, outcome: Outcome, finish: Callable[[], None]) -> None:
        """Has a failure finished, now or once anything has trained."""
        if self.breaker.proven:
            finish()
        else:
            self._waiting.append((outcome, finish))

    def ended(self, key: str, outcome: Outcome) -> None:
        for observer in self.observers:
            observer.trial_ended(key, outcome)

    def gave_up(self, key: str, cause: str) -> None:
        for observer in self.observers:
            observer.trial_given_up(key, cause)

    def is_over(self) -> None:
        """Failures that still wait are no outcomes: nothing ever trained."""
        if self.fault is None and self._waiting:
            (first, _), *_ = self._waiting
            self.fault = systemic(first.reason or "")


def systemic(cause: str) -> StudyStopped:
    return StudyStopped(
        f"every trial failed before its first step, in the same way: {cause}. This is not the "
        "trials' fault: nothing was recorded as an outcome. Mend it and run the same command again "
        "(`optbench doctor` checks this machine)"
    )
