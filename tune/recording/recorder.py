"""Writes down what comes back from the trials, before anybody hears of it.

Tune's loop must not wait for a disk: what Tune calls here hands errands to a `Writer`, and in every
turn of the loop what is on disk by then is told, in the loop's own thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from ray import tune as ray_tune

from harness.errors import StudyStopped, UserError
from harness.runs.attempts import ATTEMPT_EVENT, AttemptBegan, AttemptEnd, AttemptEnded
from harness.training.records import Outcome, Report
from tune.cluster.nodes import lost_nodes
from tune.gangs.trainable import ATTEMPT, OUTCOME, REPORT
from tune.job import Job, job_id, task_of
from tune.recording.breaker import Breaker
from tune.recording.observers import Observer, Told
from tune.recording.trial_files import HoldsTrials, TrialFiles
from tune.recording.writer import Writer

LOOK_FOR_STOPS_S = 2.0
"""How often the folders of the trials that run are looked at for requests to stop them."""

PATIENCE_S = 30.0
"""A disk that takes no record for so long at the end of a run is not waited for any longer."""

NOTHING_ELSE_S = 1.0
"""How long a searcher that nothing else runs beside waits at once for outcomes to be written."""


class Recorder(ray_tune.Callback):  # type: ignore[misc]
    """Has what trials yield written into their folders, then told to the observers.

    A trial is known by its `Job.id`. Where all trials of one task fail alike, that task is set
    aside and the others go on; where no task is left, the run ends.

    Args:
        job_of: the job with an id.
        breakers: by task, see `Told`; of a study that is trained alone under an empty name.
        deadline: by `time.monotonic`, after which trials are stopped; None: never.
    """

    def __init__(
        self,
        folder: HoldsTrials,
        *,
        job_of: Callable[[str], Job],
        observers: Sequence[Observer],
        breakers: Mapping[str, Breaker],
        deadline: float | None = None,
    ) -> None:
        self.folder, self.job_of, self.deadline = folder, job_of, deadline
        self.tasks = {task: Told(observers, breaker) for task, breaker in breakers.items()}
        self.own_fault: Exception | None = None  # no task's
        self.writer, self.files = Writer(), TrialFiles(folder)
        # What has come in, and need not be on disk yet.
        self.begun: dict[str, float] = {}  # trials that have not ended
        self.attempts: dict[str, AttemptBegan] = {}  # under way
        self.ended: dict[str, AttemptEnded] = {}  # the last attempt of each of these trials
        self.came_to: dict[str, int] = {}  # the last step that was reported
        # What the writer has found.
        self.stops: dict[str, str] = {}  # why somebody asked a trial to stop
        self.looked_for_stops = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles callbacks for `Tuner.restore`, and we resume from our own files."""
        return {}

    # What Ray Tune calls.

    def on_step_begin(self, iteration: int, trials: list[Any], **_: Any) -> None:
        self.tell()
        if time.monotonic() - self.looked_for_stops > LOOK_FOR_STOPS_S:
            self.looked_for_stops = float("inf")  # one look at a time
            self.write(partial(self.files.stops, list(self.begun)), self._have_looked)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        job = self.job_of(_key(trial))
        if job.id not in self.begun:  # else it is another attempt
            self.begun[job.id] = time.monotonic()
            self._told(job.id).started(job)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        result.pop("config", None)  # Tune keeps the last result of every trial
        key = _key(trial)
        if self.fault is not None or self._told(key).fault is not None:
            return
        if ATTEMPT in result:
            event = ATTEMPT_EVENT.validate_json(result[ATTEMPT])
            if isinstance(event, AttemptBegan):
                self._begin(key, event)
            else:
                self._end_attempt(key, event)
        if REPORT in result:
            self._report(key, Report.model_validate_json(result[REPORT]))
        if OUTCOME in result:
            self._end(key, Outcome.model_validate_json(result[OUTCOME]))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """A trial that ends without an outcome of its own was stopped by the scheduler."""
        key = _key(trial)
        if key not in self.begun or self.wants_end():
            return  # all of them were stopped, and none by a scheduler
        if self._told(key).fault is not None:
            self._close(key, "stopped", "its task was set aside: all its trials fail alike")
            self._forget(key)
            return
        if (why := self.stops.get(key)) is not None:
            self.write(partial(self.files.clear_stop, key))
            self._close(key, "stopped", why)
            self._give_up(key, why)
            return
        reason = "stopped early: behind the other configurations of its variant"
        self._close(key, "outcome", reason)
        self._end(key, Outcome(outcome="stopped", reason=reason))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Tune tries again; the next attempt is told of this one."""
        self._actor_failed(trial)
        key, own = _key(trial), trial.config["trial"]
        own["attempt"] += 1
        own["reported_step"] = max(own["reported_step"], self.came_to.get(key, -1))
        if (ended := self.ended.get(key)) is not None:
            own["earlier"] = [*own["earlier"], ended.model_dump(mode="json")]

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """The trial has no attempts left."""
        self._actor_failed(trial)
        key = _key(trial)
        self._give_up(key, self.ended[key].cause if key in self.ended else str(trial.get_error()))

    # What the driver and the search ask.

    def wants_stop(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether somebody asked for the end of this trial."""
        key = _id(result["config"])
        return key in self.stops or self._told(key).fault is not None

    def wants_end(self) -> bool:
        """Whether nothing more is to be trained."""
        return self.fault is not None or self.is_late

    def end(self, why: str) -> None:
        """Ends the run for a reason that is no trial's."""
        self.own_fault = self.fault or StudyStopped(why)

    @property
    def fault(self) -> Exception | None:
        """Why the run ends: its own reason, or the first task's where every one is set aside."""
        faults = [told.fault for told in self.tasks.values()]
        return self.own_fault or (faults[0] if all(faults) else None)

    def fault_of(self, task: str) -> Exception | None:
        """Why a task is set aside."""
        return self.tasks[task].fault

    def _told(self, key: str) -> Told:
        return self.tasks[task_of(key)]

    @property
    def is_late(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline

    def write(
        self,
        work: Callable[[], Any],
        then: Callable[[Any], None] = lambda _: None,
        *,
        awaited: bool = False,
    ) -> None:
        """Has something written after all that was handed in before, see `Writer.put`."""
        self.writer.put(work, then, awaited=awaited)

    def tell(self) -> None:
        """Tells of all that is on disk by now. A disk that is full ends the run."""
        try:
            self.writer.drain()
        except OSError as error:
            place = error.filename or self.folder.path
            self.own_fault = StudyStopped(
                f"cannot write {place}: {error.strerror}: make room there, and run the same "
                "command again; what was finished is kept"
            )
        except UserError as error:  # a damaged file
            self.own_fault = error

    def has_told_ends(self, *, wait: bool) -> bool:
        """Whether every trial that has ended is on disk and told of.

        Args:
            wait: nothing else runs that could be held up.
        """
        self.tell()
        until = time.monotonic() + NOTHING_ELSE_S
        while wait and not self.writer.is_settled and time.monotonic() < until:
            self.writer.flush(patience_s=NOTHING_ELSE_S)
            self.tell()
        return self.writer.is_settled

    def close(self) -> None:
        """After the last trial, or when the run was interrupted: all that came in is written.

        Raises:
            StudyStopped: the disk stands still.
        """
        cause = "the time budget was spent" if self.is_late else "the run was interrupted"
        for key in list(self.attempts):
            self._close(key, "stopped", cause)
        try:
            while not self.writer.is_idle:
                if left := self.writer.flush(patience_s=PATIENCE_S):
                    raise StudyStopped(
                        f"the disk of {self.folder.path} has taken nothing for {PATIENCE_S:.0f} s: "
                        f"the last {left} records are not written. Run the same command again once "
                        "it answers: trials go on from their checkpoints"
                    )
                self.tell()
            self.tell()
        finally:
            self.writer.stop()
        for told in self.tasks.values():
            told.is_over()

    # The course of an attempt.

    def _begin(self, key: str, event: AttemptBegan) -> None:
        self.attempts[key] = event
        self.write(partial(self.files.begin, key, self.job_of(key).spec, event))

    def _report(self, key: str, report: Report) -> None:
        self.came_to[key] = max(report.step, self.came_to.get(key, -1))
        told = partial(self._told(key).reported, key, report)
        self.write(partial(self.files.report, key, report), told)
        self.write(partial(self.files.stops, [key]), self.stops.update)

    def _end_attempt(self, key: str, event: AttemptEnded) -> None:
        self.attempts.pop(key, None)
        self.ended[key] = event
        told = partial(self._told(key).attempt_ended, self.job_of(key))
        self.write(partial(self.files.end_attempt, key, event), told)

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
            self._end_attempt(key, event)

    # The end of a trial.

    def _end(self, key: str, outcome: Outcome) -> None:
        begun = self._forget(key)
        wall_time_s = None if begun is None else time.monotonic() - begun
        finish = partial(self._finish, key, outcome, wall_time_s)
        if outcome.outcome in ("failed", "out_of_memory"):
            # Whether anything has trained by now is known when all before this is told.
            self.write(_nothing, lambda _: self._told(key).failed(outcome, finish), awaited=True)
        else:
            finish()

    def _finish(self, key: str, outcome: Outcome, wall_time_s: float | None) -> None:
        work = partial(self.files.finish, key, outcome, wall_time_s)
        self.write(work, partial(self._told(key).ended, key), awaited=True)

    def _give_up(self, key: str, cause: str) -> None:
        self._forget(key)
        self.write(_nothing, lambda _: self._told(key).gave_up(key, cause), awaited=True)

    def _forget(self, key: str) -> float | None:
        """What has come in of a trial that is over; returns when it began."""
        self.ended.pop(key, None)
        self.came_to.pop(key, None)
        return self.begun.pop(key, None)

    def _have_looked(self, stops: dict[str, str]) -> None:
        self.stops.update(stops)
        self.looked_for_stops = time.monotonic()


def _key(trial: Any) -> str:
    return _id(trial.config)


def _id(config: Mapping[str, Any]) -> str:
    return job_id(config["trial"]["task"], config["trial"]["key"])


def _nothing() -> None:
    """Only its place in the order counts."""
