"""Writes down what comes back from the trials, before anybody hears of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

from ray import tune as ray_tune

from harness.errors import StudyStopped
from harness.runs.attempts import (
    ATTEMPT_EVENT,
    FAILURES,
    AttemptBegan,
    AttemptEnd,
    AttemptEnded,
)
from harness.runs.folder import StudyFolder
from harness.training.records import Outcome, Report
from tune.breaker import Breaker
from tune.job import Job
from tune.nodes import lost_nodes
from tune.trainable import ATTEMPT, OUTCOME, REPORT


class Observer(Protocol):
    """Told of everything after it is on disk."""

    def trial_started(self, job: Job) -> None: ...
    def trial_reported(self, key: str, report: Report) -> None: ...
    def attempt_failed(self, key: str, cause: str) -> None: ...
    def trial_ended(self, key: str, outcome: Outcome) -> None: ...
    def trial_given_up(self, key: str, cause: str) -> None: ...


class Recorder(ray_tune.Callback):  # type: ignore[misc]
    """Writes what trials yield into their folders, then tells the observers.

    Args:
        job_of: the job with a trial_key.
        breaker: told of every attempt; while it waits for the first step of any trial, no trial
            that failed before its own has an outcome.
        deadline: by `time.monotonic`, after which trials are stopped; None: never.
    """

    def __init__(
        self,
        folder: StudyFolder,
        *,
        job_of: Callable[[str], Job],
        observers: Sequence[Observer],
        breaker: Breaker,
        deadline: float | None = None,
    ) -> None:
        self.folder, self.job_of, self.observers = folder, job_of, observers
        self.breaker, self.deadline = breaker, deadline
        self.fault: StudyStopped | None = None  # why no trial of this run can go on
        self.begun: dict[str, float] = {}  # of the trials that have no outcome yet
        self.attempts: dict[str, AttemptBegan] = {}  # under way
        self.steps: dict[str, int] = {}  # the last one that is on disk
        self.last: dict[str, Report] = {}
        self.waiting: dict[str, Outcome] = {}  # for the first step of any trial
        self.ended: dict[str, AttemptEnded] = {}  # the last attempt of each trial
        self.given_up: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles callbacks for `Tuner.restore`, and we resume from our own files."""
        return {}

    # What Ray Tune calls.

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        job = self.job_of(_key(trial))
        if job.key in self.begun:
            return  # another attempt
        self.begun[job.key] = time.monotonic()
        for observer in self.observers:
            observer.trial_started(job)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        result.pop("config", None)  # Tune keeps the last result of every trial
        if self.fault is not None:
            return
        key = _key(trial)
        with self._writing():
            if ATTEMPT in result:
                event = ATTEMPT_EVENT.validate_json(result[ATTEMPT])
                if isinstance(event, AttemptBegan):
                    self._begin(key, event)
                else:
                    self._attempt_ended(key, event)
            if REPORT in result:
                self._report(key, Report.model_validate_json(result[REPORT]))
            if OUTCOME in result:
                self._end(key, Outcome.model_validate_json(result[OUTCOME]))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """A trial that ends without an outcome of its own was stopped by the scheduler."""
        key = _key(trial)
        if key not in self.begun or self.wants_end():
            return  # all of them were stopped, and none by a scheduler
        with self._writing():
            if (why := self.folder.trial(key).stop_requested()) is not None:
                self.folder.trial(key).clear_stop()
                self._close(key, "stopped", why)
                self._give_up(key, why)
                return
            reason = "stopped early: behind the other configurations of its variant"
            self._close(key, "outcome", reason)
            self._end(key, Outcome(outcome="stopped", reason=reason))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Tune tries again; the next attempt is told of this one."""
        with self._writing():
            self._actor_failed(trial)
        own = trial.config["trial"]
        own["attempt"] += 1
        if (ended := self.ended.get(_key(trial))) is not None:
            own["earlier"] = [*own["earlier"], ended.model_dump(mode="json")]

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """The trial has no attempts left."""
        with self._writing():
            self._actor_failed(trial)
        key = _key(trial)
        self._give_up(key, self.ended[key].cause if key in self.ended else str(trial.get_error()))

    # What the driver asks.

    def wants_stop(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether somebody asked for the end of this trial."""
        key = result["config"]["trial"]["key"]
        return self.folder.trial(key).stop_requested() is not None

    def wants_end(self) -> bool:
        """Whether nothing more is to be trained."""
        return self.fault is not None or self.is_late

    def end(self, why: str) -> None:
        """Ends the run for a reason that is no trial's."""
        self.fault = self.fault or StudyStopped(why)

    @property
    def is_late(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline

    def close(self) -> None:
        """After the last trial, or when the run was interrupted."""
        cause = "the time budget was spent" if self.is_late else "the run was interrupted"
        with self._writing():
            for key in list(self.attempts):
                self._close(key, "stopped", cause)
        if self.fault is None and self.waiting:
            (first, *_) = self.waiting.values()
            self.fault = systemic(first.reason or "")

    # The course of an attempt.

    def _begin(self, key: str, event: AttemptBegan) -> None:
        trial = self.folder.trial(key)
        trial.begin(self.job_of(key).spec, event)
        self.attempts[key] = event
        self.steps[key] = max((report.step for report in trial.reports()), default=-1)

    def _report(self, key: str, report: Report) -> None:
        """A trial that goes on from a checkpoint reports steps again: the first report stays."""
        if report.step > 0:
            self.breaker.trained()
            self._settle_waiting()
        if report.step <= self.steps.get(key, -1):
            return
        self.folder.trial(key).append(report)
        self.steps[key], self.last[key] = report.step, report
        for observer in self.observers:
            observer.trial_reported(key, report)

    def _attempt_ended(self, key: str, event: AttemptEnded) -> None:
        step = max(event.step, self.steps.get(key, 0))
        event = event.model_copy(update={"step": step})
        self.folder.trial(key).append_attempt(event)
        self.attempts.pop(key, None)
        self.ended[key] = event
        if event.end not in FAILURES:
            return
        self.breaker.failed(self.job_of(key).variants[0], event)
        for observer in self.observers:
            observer.attempt_failed(key, event.cause)
        if (cause := self.breaker.fault()) is not None:
            self.fault = systemic(cause)

    def _actor_failed(self, trial: Any) -> None:
        """Where the actor that held the gang died itself, nobody has told how the attempt ended."""
        key = _key(trial)
        if key not in self.attempts:
            return
        places = self.attempts[key].places
        gone = lost_nodes({place.node for place in places})
        if gone:
            hosts = sorted({f"{p.host} ({p.address})" for p in places if p.node in gone})
            self._close(key, "node_lost", f"the node of the trial is lost: {', '.join(hosts)}")
        else:
            self._close(key, "worker_died", "the actor that held the workers died")

    def _close(self, key: str, end: AttemptEnd, cause: str) -> None:
        began = self.attempts.get(key)
        if began is not None:
            at = datetime.now(UTC).isoformat(timespec="seconds")
            event = AttemptEnded(attempt=began.attempt, at=at, end=end, cause=cause, signature=end)
            self._attempt_ended(key, event)

    # The end of a trial.

    def _end(self, key: str, outcome: Outcome) -> None:
        begun, last = self.begun.pop(key, None), self.last.pop(key, None)
        if outcome.wall_time_s is None and begun is not None:
            outcome = _as_far_as_it_came(outcome, last, time.monotonic() - begun)
        if outcome.outcome in ("failed", "out_of_memory") and not self.breaker.proven:
            self.waiting[key] = outcome
            return
        self._finish(key, outcome)

    def _settle_waiting(self) -> None:
        """Something trains: what failed before its first step failed by itself."""
        while self.waiting:
            self._finish(*self.waiting.popitem())

    def _finish(self, key: str, outcome: Outcome) -> None:
        self.folder.trial(key).finish(outcome)
        self.ended.pop(key, None)
        for observer in self.observers:
            observer.trial_ended(key, outcome)

    def _give_up(self, key: str, cause: str) -> None:
        self.begun.pop(key, None)
        self.given_up[key] = cause
        for observer in self.observers:
            observer.trial_given_up(key, cause)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A disk that is full ends the run; what Tune made of the exception would be a failure."""
        try:
            yield
        except OSError as error:
            place = error.filename or self.folder.path
            self.fault = StudyStopped(
                f"cannot write {place}: {error.strerror}: make room there, and run the same "
                "command again; what was finished is kept"
            )


def systemic(cause: str) -> StudyStopped:
    return StudyStopped(
        f"every trial failed before its first step, in the same way: {cause}. This is not the "
        "trials' fault: nothing was recorded as an outcome. Mend it and run the same command again "
        "(`optbench doctor` checks this machine)"
    )


def _key(trial: Any) -> str:
    return str(trial.config["trial"]["key"])


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
