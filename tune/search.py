"""The searcher that Ray Tune asks for configurations: equal budgets, journaled, resumable."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ray.tune.search import Searcher

from harness.config import Study, TrialSpec, VariantConfig
from harness.errors import UserError
from harness.journal import Ended, Event, Journal, Suggested
from harness.results import Outcome, Report, StudyFolder
from harness.study import tuning_spec
from harness.tuning.points import draw_points
from harness.tuning.rounds import Round
from harness.tuning.summary import worst_outcome
from harness.tuning_settings import Choice, Grid, Int, LogUniform, Point, Space, TuningSettings

LOSS = "loss"
# Optuna's own default is 10 random points before the estimator starts; a small budget would never
# leave them, so at most half of it is random.
TPE_RANDOM_POINTS = 10


class PointSource(Protocol):
    """Where one variant's points come from in one round."""

    def ask(self, name: str) -> Point: ...
    def tell(self, name: str, loss: float) -> None: ...


class Listed:
    """Points that need no results of earlier ones."""

    def __init__(self, points: Sequence[Point]) -> None:
        self.left = deque(points)

    def ask(self, name: str) -> Point:
        return self.left.popleft()

    def tell(self, name: str, loss: float) -> None:
        """Nothing to learn."""


class Tpe:
    """Optuna's tree-structured Parzen estimator, through Ray Tune's `OptunaSearch`."""

    def __init__(
        self, space: Space, *, trials: int, seed: int, earlier: Sequence[tuple[Point, float]]
    ) -> None:
        import optuna
        from ray.tune.search.optuna import OptunaSearch

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=min(TPE_RANDOM_POINTS, max(1, trials // 2))
        )
        self.search = OptunaSearch(
            space=_distributions(space), metric=LOSS, mode="min", sampler=sampler
        )
        for point, loss in earlier:
            self.search.add_evaluated_point(point, loss)

    def ask(self, name: str) -> Point:
        return dict(self.search.suggest(name) or {})

    def tell(self, name: str, loss: float) -> None:
        self.search.on_trial_complete(name, {LOSS: loss})


def _distributions(space: Space) -> dict[str, Any]:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    def distribution(dimension: Any) -> Any:
        if isinstance(dimension, Choice | Grid):
            return CategoricalDistribution(dimension.values)
        if isinstance(dimension, Int):
            return IntDistribution(dimension.low, dimension.high)
        logarithmic = isinstance(dimension, LogUniform)
        return FloatDistribution(dimension.low, dimension.high, log=logarithmic)

    return {name: distribution(dimension) for name, dimension in space.items()}


@dataclass
class Open:
    """A suggested configuration with training runs that have no outcome yet."""

    suggested: Suggested
    waiting: set[str]


class JournaledSearch(Searcher):  # type: ignore[misc]
    """Hands out one configuration of each variant after another, each on every tuning seed.

    All that happens is in the journal. A search that was interrupted replays it: the point sources
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
        dataset_path: Path,
        worst_loss: float,
    ) -> None:
        super().__init__()
        self.study, self.current, self.folder = study, current, folder
        self.data_sha256, self.dataset_path = data_sha256, dataset_path
        self.worst_loss = worst_loss
        self.variants = {variant.name: variant for variant in study.variants}
        self.journal = Journal(folder.path)
        self.open: list[Open] = []
        self.queue: deque[tuple[Suggested, int]] = deque()
        self.running: set[str] = set()
        self.suggested = dict.fromkeys(self.variants, 0)
        self._replay(self.journal.events())

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
            elif key not in self.running:
                self.running.add(key)
                spec = self._spec(suggested, seed)
                return {
                    "trial": {
                        "key": key,
                        "variant": suggested.variant,
                        "spec": spec.model_dump(mode="json"),
                        "dataset_path": str(self.dataset_path),
                    }
                }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: outcomes come through `trial_ended`, once they are on disk."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing of value: the journal is the state."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, see `save`."""

    # What the driver calls.

    def trial_started(self, key: str, spec: TrialSpec) -> None:
        """Known already."""

    def trial_reported(self, key: str, report: Report) -> None:
        """Only outcomes count."""

    def trial_ended(self, key: str, outcome: Outcome) -> None:
        self.running.discard(key)
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
        self.journal.append(event)
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
        self.journal.append(
            Ended(variant=suggested.variant, index=suggested.index, outcome=word, told=told)
        )
        self.sources[suggested.variant].tell(_label(suggested.index), told)

    def _told(self, outcome: Outcome) -> float:
        """The loss of a completed or stopped run; any other one is as bad as a uniform guess."""
        if outcome.outcome in ("completed", "stopped") and outcome.validation_loss is not None:
            return outcome.validation_loss
        return self.worst_loss

    def _spec(self, suggested: Suggested, seed: int) -> TrialSpec:
        return tuning_spec(
            self.study,
            self.variants[suggested.variant],
            suggested.point,
            seed=seed,
            data_sha256=self.data_sha256,
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
                f"{self.journal.path} cannot be continued: the searcher now draws {point} where it "
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
