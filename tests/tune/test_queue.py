"""Jobs are handed out in order, put together late, and never more at once than the limit says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ray.tune.search import Searcher

from tune.queue import InOrder, JobQueue, Limited


class Put:
    """Stands for the launch: notes which jobs have been put together."""

    def __init__(self) -> None:
        self.together: list[str] = []

    def config(self, job: str) -> dict[str, str]:
        self.together.append(job)
        return {"key": job}


def test_jobs_come_in_order_and_are_put_together_when_they_are_wanted() -> None:
    put = Put()
    queue = JobQueue(["a", "b"], put)  # type: ignore[list-item, arg-type]
    assert put.together == []
    assert queue.suggest("1") == {"trial": {"key": "a"}}
    assert put.together == ["a"]
    assert queue.suggest("2") == {"trial": {"key": "b"}}
    assert queue.suggest("3") == Searcher.FINISHED


def test_the_limit_may_rise_and_fall() -> None:
    allowed = [1]
    limited = Limited(JobQueue("abcdef", Put()), lambda: allowed[0])  # type: ignore[arg-type]
    assert limited.suggest("1") is not None
    assert limited.suggest("2") is None
    allowed[0] = 3
    assert limited.suggest("2") is not None
    assert limited.suggest("3") is not None
    allowed[0] = 2
    limited.on_trial_complete("1")
    assert limited.suggest("4") is None, "two are still under way"
    limited.on_trial_complete("2")
    assert limited.suggest("4") is not None


class Controller:
    """The parts of Tune's controller that decide who gets the gang of a trial that has ended."""

    def __init__(self, *, waiting: dict[str, bool], kept: int) -> None:
        trials = [SimpleNamespace(name=name, status="PENDING") for name in waiting]
        self._pending_trials_list = trials
        self._pending_trials = {id(t): t for t in trials}.values()
        self._trial_to_actor = [t for t in trials if waiting[t.name]]
        self._actor_cache = SimpleNamespace(num_cached_objects=kept)
        self.given_back = False

    def _cleanup_cached_actors(self, force_all: bool) -> None:
        self.given_back = force_all

    def choice(self) -> Any:
        trials = self._pending_trials_list
        wrapper = SimpleNamespace(_tune_controller=self, get_trials=lambda: trials)
        chosen = InOrder().choose_trial_to_run(wrapper)
        return None if chosen is None else chosen.name


def test_a_gang_that_no_trial_waits_for_is_given_back() -> None:
    controller = Controller(waiting={}, kept=1)
    assert controller.choice() is None
    assert controller.given_back


def test_a_warm_gang_goes_to_a_trial_that_has_none_of_its_own_starting() -> None:
    assert Controller(waiting={"a": True, "b": False}, kept=1).choice() == "b"
    assert Controller(waiting={"a": True, "b": True}, kept=1).choice() == "a"
    assert Controller(waiting={"a": False, "b": False}, kept=0).choice() == "a"
