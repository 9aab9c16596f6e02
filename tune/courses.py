"""The courses of one or several studies through one queue: stage after stage, task beside task.

A stage is what can be trained without results of one another's: a round of a search, or the trials
up to a look. What the next stage is follows from the outcomes of the last one, so it is asked for
when they are on disk. While one study waits for the last trial of a stage, others train.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ray.tune.search import Searcher

from harness.errors import UserError
from harness.training.records import Outcome, Report
from tune.job import Job
from tune.queue import Halving, OwnSearcher
from tune.recording.breaker import Breaker


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Trials that are handed out one after another until there are no more.

    `jobs` are those that the searcher has handed out, by trial_key.
    """

    searcher: OwnSearcher
    jobs: Mapping[str, Job]
    halving: Halving | None = None


@dataclass(kw_only=True)
class Course:
    """What one study trains, and how far it is.

    Args:
        task: the name of its task in a suite; empty where it is trained alone.
        stages: asks for the next stage when every trial of the last has an outcome on disk.
        breaker: opens when all of its trials fail alike.
    """

    task: str
    stages: Iterator[Stage]
    breaker: Breaker
    stage: Stage | None = None
    is_deciding: bool = False
    is_over: bool = False
    error: Exception | None = None  # why it was set aside, or its next stage cannot be known
    running: set[str] = field(default_factory=set)  # Tune's names of its trials
    open: dict[str, str] = field(default_factory=dict)  # names of jobs without an outcome, by key
    given_up: dict[str, str] = field(default_factory=dict)  # why, by key


Write = Callable[..., None]


def _at_once(
    work: Callable[[], Any], then: Callable[[Any], None] = lambda _: None, *, awaited: bool = False
) -> None:
    """Where there is no recorder."""
    then(work())


class Courses(OwnSearcher):
    """Hands out the trials of all courses in turn, one of each; also an observer of the driver.

    A course of which a trial has no outcome at the end of its stage is over: its next stage cannot
    be known in this run. So is one that is set aside, because all its trials fail alike.
    """

    def __init__(
        self, courses: Sequence[Course], *, say: Callable[[str], None] = lambda what: None
    ) -> None:
        super().__init__()
        self.say = say
        self.courses = {course.task: course for course in courses}
        self.turns = deque(courses)
        self.jobs: dict[str, Job] = {}  # handed out, by id
        self.course_of: dict[str, Course] = {}  # by Tune's name of a trial that is under way
        self.write: Write = _at_once  # a recorder's, where there is one
        self.fault_of: Callable[[str], Exception | None] = lambda task: None

    # What Ray Tune calls.

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        found = self._in_turn(trial_id)
        if found is None and not self.course_of and self.has_told_ends(wait=True):
            found = self._in_turn(trial_id)  # nothing else runs: what was being decided is known
        if found is None and all(course.is_over for course in self.turns):
            return str(Searcher.FINISHED)
        return found

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Its outcome counts once it is on disk."""
        course = self.course_of.pop(trial_id)
        course.running.discard(trial_id)
        if course.stage is not None:
            course.stage.searcher.on_trial_complete(trial_id, result, error)

    def halving_of(self, trial: Any) -> Halving | None:
        """What may stop this trial of Tune's early."""
        stage = self.courses[trial.config["trial"]["task"]].stage
        return None if stage is None else stage.halving

    # The turns.

    def _in_turn(self, trial_id: str) -> dict[str, Any] | None:
        for _ in range(len(self.turns)):
            course = self.turns[0]
            self.turns.rotate(-1)
            config = self._next_of(course, trial_id)
            if config is not None:
                return config
        return None

    def _next_of(self, course: Course, trial_id: str) -> dict[str, Any] | None:
        """The course's next trial; None while it has none, and for ever once it is over."""
        if course.is_over or course.is_deciding:
            return None
        if (fault := self.fault_of(course.task)) is not None:
            course.is_over = True
            if course.task:
                self.say(f"{course.task} is set aside, the other tasks go on: {fault}")
            return None
        if course.stage is None:
            self._decide(course)
        if course.stage is None:
            return None
        answer = course.stage.searcher.suggest(trial_id)
        if isinstance(answer, dict):
            return self._hand_out(course, trial_id, answer)
        if answer is not None and not course.running and self._all_told():
            # Of what is still open nobody will hear any more in this run.
            course.is_over = bool(course.open)
            if not course.is_over:
                self._decide(course)
        return None

    def _hand_out(self, course: Course, trial_id: str, config: dict[str, Any]) -> dict[str, Any]:
        assert course.stage is not None, "it has just answered"
        key = config["trial"]["key"]
        job = replace(course.stage.jobs[key], task=course.task)
        self.jobs[job.id] = job
        course.open[key] = job.name
        course.running.add(trial_id)
        self.course_of[trial_id] = course
        return config

    def _all_told(self, *, wait: bool = True) -> bool:
        return self.has_told_ends(wait=wait and not self.course_of)

    def _decide(self, course: Course) -> None:
        """Has the next stage found, after all that has ended is on disk."""
        course.is_deciding = True

        def work() -> Stage | UserError | None:
            try:
                return next(course.stages, None)
            except UserError as error:
                return error

        def enter(found: Stage | UserError | None) -> None:
            course.is_deciding = False
            course.stage = found if isinstance(found, Stage) else None
            course.error = found if isinstance(found, UserError) else None
            course.is_over = course.stage is None
            if course.stage is not None:
                course.stage.searcher.write = self.write
                course.stage.searcher.has_told_ends = self._all_told

        self.write(work, enter, awaited=True)

    # What the driver calls.

    def trial_started(self, job: Job) -> None:
        """Known already."""

    def trial_reported(self, key: str, report: Report) -> None:
        """Only outcomes count."""

    def attempt_failed(self, key: str, cause: str) -> None:
        """The trial is tried again."""

    def trial_ended(self, key: str, outcome: Outcome) -> None:
        course, own = self._place(key)
        course.open.pop(own, None)
        if course.stage is not None:
            course.stage.searcher.trial_ended(own, outcome)

    def trial_given_up(self, key: str, cause: str) -> None:
        course, own = self._place(key)
        course.given_up[own] = cause
        if course.stage is not None:
            course.stage.searcher.trial_given_up(own, cause)

    def _place(self, key: str) -> tuple[Course, str]:
        job = self.jobs[key]
        return self.courses[job.task], job.key
