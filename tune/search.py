"""The searcher that Ray Tune asks for configurations: equal budgets, logged, resumable."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from harness.errors import UserError
from harness.runs.folder import StudyFolder
from harness.runs.search_log import Ended, Event, SearchLog, Suggested
from harness.study.search_space import (
    Point,
)
from harness.study.settings import TuningSettings
from harness.study.study_file import Study, VariantConfig
from harness.study.trial import tuning_spec
from harness.training.records import Outcome, Report, worst_outcome
from tune.job import Job, Launch
from tune.rounds import Round
from tune.samplers import Listed, PointSource, Tpe, draw_points


@dataclass
class Open:
    """A suggested configuration with training runs that have no outcome yet."""

    suggested: Suggested
    waiting: set[str]


class LoggedSearch(Searcher):  # type: ignore[misc]
    """Hands out one configuration of each variant after another, each on every tuning seed.

    All that happens is in the log. A search that was interrupted replays it: the point sources
    are asked and told the same in the same order, so they are in the same state, and then the
    configurations that had not ended are trained first.

    It is also an observer of the driver: it learns of an outcome when that is on disk.
    """

    def __init__(
        self,
        study: Study,
        current: Round,
        *,
        folder: StudyFolder,
        data_sha256: str,
        launch: Launch,
        worst_loss: float,
    ) -> None:
        super().__init__()
        self.study, self.current, self.folder = study, current, folder
        self.data_sha256, self.launch = data_sha256, launch
        self.worst_loss = worst_loss
        self.variants = {variant.name: variant for variant in study.variants}
        self.log = SearchLog(folder.path)
        self.open: list[Open] = []
        self.queue: deque[tuple[Suggested, int]] = deque()
        self.jobs: dict[str, Job] = {}  # handed out in this process, by trial_key
        self.suggested = dict.fromkeys(self.variants, 0)
        self._replay(self.log.events())

    # What Ray Tune calls.

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """The next training run; a run that already has an outcome is not trained again."""
        while True:
            if not self.queue and not self._draw():
                return str(Searcher.FINISHED)
            suggested, seed = self.queue.popleft()
            key = suggested.keys[seed]
            if self.folder.trial(key).outcome() is not None:
                self._settle(key)
            elif key not in self.jobs:
                self.jobs[key] = self._job(suggested, seed)
                return {"trial": self.launch.config(self.jobs[key])}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: outcomes come through `trial_ended`, once they are on disk."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing of value: the log is the state."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, see `save`."""

    # What the driver calls.

    def trial_started(self, job: Job) -> None:
        """Known already."""

    def trial_reported(self, key: str, report: Report) -> None:
        """Only outcomes count."""

    def trial_ended(self, key: str, outcome: Outcome) -> None:
        self._settle(key)

    # The course of the search.

    def _draw(self) -> bool:
        """Asks for a configuration of the variant that has had the fewest; False: all spent."""
        name = min(self.suggested, key=lambda variant: self.suggested[variant])
        if self.suggested[name] >= self.current.trials:
            return False
        index = self.first_index + self.suggested[name]
        point = self.sources[name].ask(_label(index))
        variant = self.variants[name]
        keys = {
            seed: tuning_spec(
                self.study, variant, point, seed=seed, data_sha256=self.data_sha256
            ).key
            for seed in self.study.seeds.tuning
        }
        event = Suggested(
            variant=name, round=self.current.index, index=index, point=point, keys=keys
        )
        self.log.append(event)
        self._enter(event)
        return True

    def _enter(self, event: Suggested) -> None:
        self.suggested[event.variant] += 1
        self.open.append(Open(event, set(event.keys.values())))
        self.queue.extend((event, seed) for seed in event.keys)

    def _settle(self, key: str) -> None:
        """A run has an outcome: ends every configuration that waited for it alone."""
        for waiting in list(self.open):
            waiting.waiting.discard(key)
            if not waiting.waiting:
                self.open.remove(waiting)
                self._end(waiting.suggested)

    def _end(self, suggested: Suggested) -> None:
        outcomes = [self.folder.trial(key).outcome() for key in suggested.keys.values()]
        word = worst_outcome(outcomes)
        assert word is not None, "a configuration ends when all its runs have"
        losses = [self._told(outcome) for outcome in outcomes if outcome is not None]
        told = math.fsum(losses) / len(losses)
        self.log.append(
            Ended(variant=suggested.variant, index=suggested.index, outcome=word, told=told)
        )
        self.sources[suggested.variant].tell(_label(suggested.index), told)

    def _told(self, outcome: Outcome) -> float:
        """The loss of a completed or stopped run; any other one is as bad as a uniform guess."""
        if outcome.outcome in ("completed", "stopped") and outcome.validation_loss is not None:
            return outcome.validation_loss
        return self.worst_loss

    def _job(self, suggested: Suggested, seed: int) -> Job:
        variant = suggested.variant
        spec = tuning_spec(
            self.study,
            self.variants[variant],
            suggested.point,
            seed=seed,
            data_sha256=self.data_sha256,
        )
        return Job(
            spec=spec,
            variants=(variant,),
            detail=suggested.detail(seed),
            planned_key=suggested.keys[seed],
        )

    # Where an interrupted search goes on.

    def _replay(self, events: Sequence[Event]) -> None:
        drawn = {(e.variant, e.index): e for e in events if isinstance(e, Suggested)}
        before = {at for at, event in drawn.items() if event.round < self.current.index}
        self.first_index = max((index + 1 for _, index in before), default=0)
        told = {(e.variant, e.index): e.told for e in events if isinstance(e, Ended)}
        self.sources = {
            name: self._source(
                variant, [(drawn[at].point, told[at]) for at in sorted(before) if at[0] == name]
            )
            for name, variant in self.variants.items()
        }
        for event in events:
            if isinstance(event, Suggested) and event.round == self.current.index:
                self._replay_suggestion(event)
            elif isinstance(event, Ended) and (event.variant, event.index) not in before:
                self.sources[event.variant].tell(_label(event.index), event.told)
        ended = set(told)
        self.open = [o for o in self.open if (o.suggested.variant, o.suggested.index) not in ended]
        self.queue = deque((o.suggested, seed) for o in self.open for seed in o.suggested.keys)

    def _replay_suggestion(self, event: Suggested) -> None:
        point = self.sources[event.variant].ask(_label(event.index))
        if point != event.point:
            raise UserError(
                f"{self.log.path} cannot be continued: the searcher now draws {point} where it "
                f"drew {event.point} (another version of a library?): install the versions of "
                "constraints.txt, or start the study in another --runs-dir"
            )
        self._enter(event)

    def _source(
        self, variant: VariantConfig, earlier: Sequence[tuple[Point, float]]
    ) -> PointSource:
        settings = self.study.tuning
        assert settings is not None, "only a study with [tuning] searches"
        space = self.current.spaces[variant.name]
        seed = _seed(settings, self.current.index)
        if settings.searcher == "tpe":
            return Tpe(space, trials=self.current.trials, seed=seed, earlier=earlier)
        return Listed(
            draw_points(space, searcher=settings.searcher, count=self.current.trials, seed=seed)
        )


def _seed(settings: TuningSettings, round_index: int) -> int:
    """Another one in every round, or a widened space would be searched at the same places."""
    return settings.seed + 1000 * round_index


def _label(index: int) -> str:
    return f"configuration-{index}"


def finished_reports(
    folder: StudyFolder, events: Sequence[Event], current: Round
) -> Mapping[str, tuple[str, list[Report]]]:
    """Reports of the runs of this round that ended before, by key, with their variant."""
    keys = {
        key: event.variant
        for event in events
        if isinstance(event, Suggested) and event.round == current.index
        for key in event.keys.values()
    }
    return {
        key: (variant, folder.trial(key).reports())
        for key, variant in keys.items()
        if folder.trial(key).outcome() is not None
    }
