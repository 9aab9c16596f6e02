"""Stages of several courses through one queue: in turn, each job once, no stage before its time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from ray.tune.search import Searcher

from harness.errors import StudyStopped, UserError
from harness.training.records import Outcome
from tune.courses import Course, Courses, Stage
from tune.job import Job
from tune.queue import JobQueue, StoppedEarly
from tune.recording.breaker import Breaker

COMPLETED = Outcome(outcome="completed")


def job(task: str, key: str) -> Job:
    return Job(
        spec=None,  # type: ignore[arg-type]
        variants=("some",),
        detail=key,
        planned_key=key,
        task=task,
    )


class Put:
    """Stands for the launch of a task."""

    def __init__(self, task: str) -> None:
        self.task = task

    def config(self, job: Job) -> dict[str, str]:
        return {"key": job.key, "task": self.task, "variant": "some"}


@dataclass
class Cluster:
    """Trains what the queue hands out, one turn after another.

    `plan` are the stages of each task, in numbers of trials.
    """

    plan: dict[str, list[int]]
    ended: list[str] = field(default_factory=list)  # ids, in order
    handed_out: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)
    told_late: list[str] = field(default_factory=list)  # over, and not on disk yet

    def __post_init__(self) -> None:
        courses = [self._course(task, sizes) for task, sizes in self.plan.items()]
        self.queue = Courses(courses)
        self.queue.has_told_ends = self._all_told

    def _all_told(self, *, wait: bool) -> bool:
        if wait:
            self.tell()
        return not self.told_late

    def _course(self, task: str, sizes: list[int]) -> Course:
        return Course(
            task=task,
            stages=self._stages(task, sizes),
            breaker=Breaker(variants=["some"], proven=False),
        )

    def _stages(self, task: str, sizes: list[int]) -> Iterator[Stage]:
        before: list[str] = []
        for number, size in enumerate(sizes):
            assert set(before) <= set(self.ended), "asked before the last stage has its outcomes"
            jobs = [job("", f"{number}-{index}") for index in range(size)]
            before = [f"{task}/{one.key}" for one in jobs]
            yield Stage(searcher=JobQueue(jobs, Put(task)), jobs={j.key: j for j in jobs})  # type: ignore[arg-type]

    def ask(self) -> str | None:
        """Tune's name of a trial is its id here; `over` when there are no more."""
        config = self.queue.suggest("next")
        if config == Searcher.FINISHED:
            return "over"
        if config is None:
            return None
        assert isinstance(config, dict)
        name = f"{config['trial']['task']}/{config['trial']['key']}"
        self._called(name)
        self.handed_out.append(name)
        self.running.append(name)
        return name

    def _called(self, name: str) -> None:
        course = self.queue.course_of.pop("next")
        course.running.remove("next")
        course.running.add(name)
        self.queue.course_of[name] = course

    def end(self, name: str) -> None:
        self.running.remove(name)
        self.queue.on_trial_complete(name)
        self.told_late.append(name)

    def tell(self) -> None:
        for name in self.told_late:
            self.ended.append(name)
            self.queue.trial_ended(name, COMPLETED)
        self.told_late.clear()

    def train_all(self) -> None:
        while (name := self.ask()) != "over":
            if name is None:
                self.end(self.running[0])
                self.tell()


plans = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.lists(st.integers(1, 4), max_size=3),
    min_size=1,
)


@given(plan=plans, seed=st.integers(0, 2**32))
def test_every_job_comes_once_and_no_stage_before_the_outcomes_of_the_last(
    plan: dict[str, list[int]], seed: int
) -> None:
    cluster, order = Cluster(plan), random.Random(seed)
    while True:
        what = order.choice(["ask", "end", "tell"])
        if what == "end" and cluster.running:
            cluster.end(order.choice(cluster.running))
        elif what == "tell":
            cluster.tell()
        elif cluster.ask() == "over":
            break
    wanted = {
        f"{task}/{number}-{index}"
        for task, sizes in plan.items()
        for number, size in enumerate(sizes)
        for index in range(size)
    }
    assert not cluster.running
    assert sorted(cluster.handed_out) == sorted(wanted)
    assert set(cluster.ended) == wanted
    assert cluster.ask() == "over", "and it stays so"


@given(plan=plans)
def test_while_any_task_has_a_trial_the_cluster_gets_one(plan: dict[str, list[int]]) -> None:
    """Whatever waits for the last trial of a stage, what needs nothing of it is handed out."""
    cluster = Cluster(plan)
    first = sum(sizes[0] for sizes in plan.values() if sizes)
    assert [cluster.ask() for _ in range(first)].count(None) == 0
    assert cluster.ask() == ("over" if first == 0 else None)


def test_tasks_take_turns_and_a_task_that_waits_loses_none() -> None:
    cluster = Cluster({"a": [1, 2], "b": [4]})
    assert [cluster.ask() for _ in range(3)] == ["a/0-0", "b/0-0", "b/0-1"]
    cluster.end("a/0-0")
    cluster.tell()
    assert cluster.ask() == "b/0-2", "asked once, and its next stage is known then"
    assert [cluster.ask() for _ in range(3)] == ["a/1-0", "b/0-3", "a/1-1"]


def test_the_same_trial_in_two_tasks_is_two_jobs() -> None:
    cluster = Cluster({"a": [1], "b": [1]})
    cluster.train_all()
    assert cluster.ended == ["a/0-0", "b/0-0"]
    assert {one.name for one in cluster.queue.jobs.values()} == {"a: some 0-0", "b: some 0-0"}


def test_a_trial_without_an_outcome_ends_the_course_of_its_task_alone() -> None:
    cluster = Cluster({"a": [2, 1], "b": [1, 1]})
    assert [cluster.ask() for _ in range(3)] == ["a/0-0", "b/0-0", "a/0-1"]
    cluster.queue.trial_given_up("a/0-0", "the node is lost")
    cluster.running.remove("a/0-0")
    cluster.queue.on_trial_complete("a/0-0")
    cluster.train_all()
    assert cluster.ended == ["b/0-0", "a/0-1", "b/1-0"]
    course = cluster.queue.courses["a"]
    assert course.open == {"0-0": "a: some 0-0"}
    assert course.given_up == {"0-0": "the node is lost"}
    assert cluster.queue.courses["b"].open == {}


def test_a_task_whose_trials_all_fail_alike_is_set_aside_and_said_so() -> None:
    said: list[str] = []
    cluster = Cluster({"a": [3], "b": [2]})
    cluster.queue.say = said.append
    faults: dict[str, Exception] = {}
    cluster.queue.fault_of = faults.get
    assert cluster.ask() == "a/0-0"
    faults["a"] = StudyStopped("every trial failed in the same way")
    cluster.end("a/0-0")
    cluster.train_all()
    assert cluster.handed_out == ["a/0-0", "b/0-0", "b/0-1"]
    assert said == ["a is set aside, the other tasks go on: every trial failed in the same way"]


def test_a_next_stage_that_cannot_be_known_is_the_error_of_its_task() -> None:
    def stages() -> Iterator[Stage]:
        raise UserError("its analysis cannot be applied")
        yield

    broken = Course(task="a", stages=stages(), breaker=Breaker(variants=["some"], proven=False))
    queue = Courses([broken])
    assert queue.suggest("1") == Searcher.FINISHED
    assert str(broken.error) == "its analysis cannot be applied"


def test_only_the_stage_of_a_trial_may_stop_it_early() -> None:
    class Always:
        def on_trial_add(self, controller: Any, trial: Any) -> None: ...

        def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
            return "STOP"

    scheduler = StoppedEarly({"searches": Always(), "measures": None}.__getitem__)
    assert scheduler.on_trial_result(None, "searches", {}) == "STOP"
    assert scheduler.on_trial_result(None, "measures", {}) == "CONTINUE"
