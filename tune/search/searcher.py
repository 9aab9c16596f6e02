"""The searcher that Ray Tune asks for configurations: equal budgets, logged, resumable."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ray.tune.search import Searcher

from harness.runs.search_log import Ended, SearchLog, Suggested
from harness.study.search_space import Point
from harness.study.settings import TuningSettings
from harness.study.study_file import Study, VariantConfig
from harness.study.trial import TrialSpec, tuning_spec
from harness.training.records import Outcome, Report
from tune.job import Job, Launch
from tune.queue import OwnSearcher
from tune.search.rounds import Round
from tune.search.samplers import Listed, PointSource, Tpe, draw_points
from tune.search.telling import verdict_of

# So many training runs given up without a single outcome between them: it is the cluster. To draw
# on would spend the budget on points that are chosen without the results of earlier ones.
GIVEN_UP_IN_A_ROW = 3


@dataclass
class Open:
    """A suggested configuration with training runs that have no outcome yet."""

    suggested: Suggested
    waiting: set[str]


class LoggedSearch(OwnSearcher):
    """Hands out one configuration of each variant after another, each on every tuning seed.

    All that happens is in the log, and the next point depends on nothing else. A search that was
    interrupted first trains the configurations that had not ended. A point is written before
    anything of its training runs is: by the same writer, in order.

    It is also an observer of the driver: it learns of an outcome when that is on disk. A training
    run that the driver gave up has none: its configuration stays open, in this run of the driver
    nobody waits for it, and the next run trains it again.
    """

    def __init__(
        self,
        study: Study,
        current: Round,
        *,
        data_sha256: str,
        launch: Launch,
        worst_loss: float,
    ) -> None:
        super().__init__()
        self.study, self.current, self.folder = study, current, launch.folder
        self.data_sha256, self.launch = data_sha256, launch
        self.worst_loss = worst_loss
        self.variants = {variant.name: variant for variant in study.searched}
        self.sources = {name: self._source(variant) for name, variant in self.variants.items()}
        self.log = SearchLog(launch.folder.path)
        self.open: list[Open] = []
        self.queue: deque[tuple[Suggested, int]] = deque()
        self.jobs: dict[str, Job] = {}  # handed out in this process, by trial_key
        self.over = 0  # of these, as Tune sees it: its outcome need not be on disk yet
        # A recorder's, where there is one: see `Recorder.write` and `Recorder.has_told_ends`.
        self.write: Callable[[Callable[[], None]], None] = lambda work: work()
        self.has_told_ends: Callable[..., bool] = lambda *, wait: True
        self.given_up_in_a_row = 0
        events = self.log.events()
        self.ended = {(e.variant, e.index): e for e in events if isinstance(e, Ended)}
        self.drawn: dict[str, list[Suggested]] = {name: [] for name in self.variants}
        for event in events:
            if isinstance(event, Suggested):
                self._enter(event)

    # What Ray Tune calls.

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next training run; one that has an outcome or was given up is not handed out.

        None while the outcome of an earlier one is being written: the next point depends on it.
        """
        if not self.has_told_ends(wait=self.over == len(self.jobs)):
            return None
        while self.given_up_in_a_row < GIVEN_UP_IN_A_ROW:
            if not self.queue and not self._draw():
                break
            if self.queue:
                suggested, seed = self.queue.popleft()
                key = suggested.keys[seed]
                if key not in self.jobs:
                    self.jobs[key] = self._job(suggested, seed)
                    return {"trial": self.launch.config(self.jobs[key])}
        return str(Searcher.FINISHED)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Outcomes come through `trial_ended`, once they are on disk."""
        self.over += 1

    # What the driver calls.

    def trial_started(self, job: Job) -> None:
        """Known already."""

    def trial_reported(self, key: str, report: Report) -> None:
        """Only outcomes count."""

    def attempt_failed(self, key: str, cause: str) -> None:
        """The trial is tried again."""

    def trial_ended(self, key: str, outcome: Outcome) -> None:
        """Ends every configuration that waited for this run alone."""
        self.given_up_in_a_row = 0
        for waiting in list(self.open):
            waiting.waiting.discard(key)
            if not waiting.waiting:
                self.open.remove(waiting)
                self._end(waiting.suggested)

    def trial_given_up(self, key: str, cause: str) -> None:
        """No outcome in this run: that says nothing of the configuration, which stays open."""
        self.given_up_in_a_row += 1

    # The course of the search.

    def _draw(self) -> bool:
        """Draws a configuration of the variant that has had the fewest; False: all are spent."""
        spent = {
            name: sum(event.round == self.current.index for event in drawn)
            for name, drawn in self.drawn.items()
        }
        name = min(spent, key=lambda variant: spent[variant])
        if spent[name] >= self.current.trials:
            return False
        drawn = self.drawn[name]
        point = self.sources[name].point(
            spent[name], [(e.point, self.ended.get((name, e.index))) for e in drawn]
        )
        keys = {seed: self._spec(name, point, seed).key for seed in self.study.seeds.tuning}
        event = Suggested(
            variant=name, round=self.current.index, index=len(drawn), point=point, keys=keys
        )
        self.write(partial(self.log.append, event))
        self._enter(event)
        return True

    def _enter(self, event: Suggested) -> None:
        """Takes up what is drawn: what of it has no outcome is trained, in the order of the log."""
        self.drawn[event.variant].append(event)
        if (event.variant, event.index) in self.ended:
            return
        missing = {
            seed: key
            for seed, key in event.keys.items()
            if self.folder.trial(key).outcome() is None
        }
        if missing:
            self.open.append(Open(event, set(missing.values())))
            self.queue.extend((event, seed) for seed in missing)
        else:
            self._end(event)

    def _end(self, suggested: Suggested) -> None:
        runs = []
        for key in suggested.keys.values():
            trial = self.folder.trial(key)
            outcome = trial.outcome()
            assert outcome is not None, "a configuration ends when all its runs have"
            runs.append((outcome, trial.reports()))
        ended = verdict_of(suggested, runs, worst_loss=self.worst_loss)
        self.ended[ended.variant, ended.index] = ended
        self.write(partial(self.log.append, ended))

    def _spec(self, variant: str, point: Point, seed: int) -> TrialSpec:
        return tuning_spec(
            self.study, self.variants[variant], point, seed=seed, data_sha256=self.data_sha256
        )

    def _job(self, suggested: Suggested, seed: int) -> Job:
        variant = suggested.variant
        return Job(
            spec=self._spec(variant, suggested.point, seed),
            variants=(variant,),
            detail=suggested.detail(seed),
            planned_key=suggested.keys[seed],
        )

    def _source(self, variant: VariantConfig) -> PointSource:
        settings = self.study.tuning
        assert settings is not None, "only a study with [tuning] searches"
        space, trials = self.current.spaces[variant.name], self.current.trials
        seed = _seed(settings, self.current.index)
        if settings.searcher == "tpe":
            return Tpe(space, trials=trials, seed=seed)
        return Listed(draw_points(space, searcher=settings.searcher, count=trials, seed=seed))


def _seed(settings: TuningSettings, round_index: int) -> int:
    """Another one in every round, or a widened space would be searched at the same places."""
    return settings.seed + 1000 * round_index
