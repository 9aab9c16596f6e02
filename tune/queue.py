"""What is handed to Ray Tune, and when: in order, and never more at once than have room."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import ConcurrencyLimiter, Searcher

from harness.training.records import Outcome
from tune.job import Job, Launch


class OwnSearcher(Searcher):  # type: ignore[misc]
    """A searcher that learns of outcomes from the files, and keeps its state there."""

    def __init__(self) -> None:
        super().__init__()
        # A recorder's, where there is one: see `Recorder.write` and `Recorder.has_told_ends`.
        self.write: Callable[[Callable[[], None]], None] = lambda work: work()
        self.has_told_ends: Callable[..., bool] = lambda *, wait: True

    def trial_ended(self, key: str, outcome: Outcome) -> None:
        """An outcome is on disk."""

    def trial_given_up(self, key: str, cause: str) -> None:
        """A trial has none in this run."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: outcomes count once they are on disk."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing of value: the files are the state."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, see `save`."""


class JobQueue(OwnSearcher):
    """Hands out jobs in their order; what a job needs is put together only then."""

    def __init__(self, jobs: Iterable[Job], launch: Launch) -> None:
        super().__init__()
        self.jobs, self.launch = deque(jobs), launch

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        if not self.jobs:
            return str(Searcher.FINISHED)
        return {"trial": self.launch.config(self.jobs.popleft())}


class Limited(ConcurrencyLimiter):  # type: ignore[misc]
    """Asks the searcher only while fewer trials than `limit()` are under way or wait for room.

    Ray starts the trials that wait in any order, while whole pairs should come first, and a
    searcher should not be asked before it has been told.
    """

    def __init__(self, searcher: Searcher, limit: Callable[[], int]) -> None:
        self.limit = limit
        super().__init__(searcher, max_concurrent=limit())

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        self.max_concurrent = self.limit()
        suggested: dict[str, Any] | str | None = super().suggest(trial_id)
        return suggested

    def get_state(self) -> dict[str, Any]:
        """Nothing, see `OwnSearcher.save`."""
        return {}

    __getstate__ = get_state  # Tune pickles its options


class InOrder(FIFOScheduler):  # type: ignore[misc]
    """Trials in the order in which they were handed out; gangs are neither kept nor thrown away.

    Tune keeps the gang of a trial that ended for the next one, and with it the room of a node that
    goes, or of another study: one that no trial waits for is given back here. And it gives the gang
    to the oldest trial that waits, whose own gang is then thrown away while it starts: with trials
    shorter than such a start no second gang ever trains. So it goes to the trial that has none.
    """

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        controller = tune_controller._tune_controller
        waiting = controller._pending_trials
        if not waiting:
            controller._cleanup_cached_actors(force_all=True)
            return None
        if controller._actor_cache.num_cached_objects:
            for trial in controller._pending_trials_list:
                if trial in waiting and trial not in controller._trial_to_actor:
                    return trial
        return super().choose_trial_to_run(tune_controller)


class Halving(Protocol):
    """What may stop a trial early: see `tune.search.halving`."""

    def on_trial_add(self, controller: Any, trial: Any) -> None: ...
    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str: ...


class StoppedEarly(InOrder):
    """Asks for each trial who may stop it: nobody, where it measures."""

    def __init__(self, halving_of: Callable[[Any], Halving | None]) -> None:
        super().__init__()
        self.halving_of = halving_of

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, see `OwnSearcher.save`."""
        return {}

    def on_trial_add(self, controller: Any, trial: Any) -> None:
        if (halving := self.halving_of(trial)) is not None:
            halving.on_trial_add(controller, trial)

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        halving = self.halving_of(trial)
        if halving is None:
            return str(FIFOScheduler.CONTINUE)
        return halving.on_trial_result(controller, trial, result)
