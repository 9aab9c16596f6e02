"""A search over a made-up machine: killed anywhere, its workers lost, its libraries upgraded."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tune.search.searcher
from harness.runs.folder import StudyFolder
from harness.runs.plan_file import freeze
from harness.runs.search_log import Ended, SearchLog, Suggested
from harness.study.load import load_study
from harness.study.plan import make_plan
from harness.study.search_space import Point
from harness.study.study_file import Study
from harness.training.records import Outcome
from tune.job import Launch
from tune.search.rounds import next_round
from tune.search.samplers import Tpe
from tune.search.searcher import GIVEN_UP_IN_A_ROW, LoggedSearch

DATA = "0" * 64
WORST = math.log(320)
TRIALS = 3


@pytest.fixture(autouse=True)
def local_ray() -> None:
    """None is needed here."""


class Killed(Exception):
    """The driver dies."""


@dataclass
class Machine:
    """Trains what the search hands out: the loss follows from the spec, the rest is told.

    `ends` is how each training goes by its number, `killed_at` the moment at which the driver dies,
    counted in what it does.
    """

    study: Study
    folder: StudyFolder
    source: Path
    at_once: int = 1
    ends: Callable[[int], str] = lambda number: "completed"
    killed_at: int | None = None
    begun: list[str] = field(default_factory=list)  # keys, in order
    moments: int = 0

    def run(self) -> None:
        """One `optbench run`, as far as it comes."""
        while (current := next_round(self.study, self.folder)) is not None:
            search = LoggedSearch(
                self.study,
                current,
                data_sha256=DATA,
                launch=Launch(
                    folder=self.folder,
                    dataset_path=Path("data"),
                    resources=self.study.resources,
                    checkpoints=self.study.checkpoints,
                ),
                worst_loss=WORST,
            )
            if self._train(search):
                return

    def _train(self, search: LoggedSearch) -> bool:
        """Whether a training run was given up."""
        running: list[str] = []
        given_up = False
        while True:
            while len(running) < self.at_once:
                config = search.suggest("any")
                if isinstance(config, str):
                    break
                running.append(config["trial"]["key"])
                self._pass()
            if not running:
                return given_up
            given_up |= self._end(search, running.pop(0)) == "given up"

    def _end(self, search: LoggedSearch, key: str) -> str:
        word = self.ends(len(self.begun))
        self.begun.append(key)
        if word == "given up":
            search.trial_given_up(key, "the host is gone")
            return word
        outcome = outcome_of(word, search.jobs[key].spec.optimizer.lr)
        self.folder.trial(key).path.mkdir(parents=True, exist_ok=True)
        self.folder.trial(key).finish(outcome)
        self._pass()
        search.trial_ended(key, outcome)
        self._pass()
        return word

    def _pass(self) -> None:
        self.moments += 1
        if self.moments == self.killed_at:
            raise Killed


def outcome_of(word: str, rate: float) -> Outcome:
    loss = 2.0 + 0.1 * math.log(rate / 0.01) ** 2 if word in ("completed", "stopped") else None
    return Outcome.model_validate(
        {"outcome": word, "validation_loss": loss, "step": 6, "tokens": 1000}
    )


Begin = Callable[..., Machine]


@pytest.fixture
def begin(searched_file: Path, tmp_path: Path) -> Begin:
    """A study in a new folder each time."""
    study = load_study(searched_file, [f"tuning.trials={TRIALS}"])
    assert study.tuning is not None

    def begin(searcher: str, *, seeds: tuple[int, ...] = (100,), **machine: Any) -> Machine:
        tuning = study.tuning.model_copy(update={"searcher": searcher, "asha": None})
        own = study.model_copy(
            update={
                "tuning": tuning,
                "seeds": study.seeds.model_copy(update={"tuning": seeds}),
            }
        )
        folder = StudyFolder(Path(tempfile.mkdtemp(dir=tmp_path)))
        freeze(folder, make_plan(own, DATA), source=searched_file)
        return Machine(own, folder, searched_file, **machine)

    return begin


def events_of(machine: Machine) -> tuple[list[Suggested], list[Ended]]:
    events = SearchLog(machine.folder.path).events()
    return (
        [event for event in events if isinstance(event, Suggested)],
        [event for event in events if isinstance(event, Ended)],
    )


def points_of(machine: Machine) -> dict[tuple[str, int], Point]:
    return {(event.variant, event.index): event.point for event in events_of(machine)[0]}


def check_whole(machine: Machine) -> None:
    """Every variant spent exactly its budget, every configuration is there and ended once.

    Of the very last outcome nobody need be told, if the driver died when it was on disk.
    """
    suggested, ended = events_of(machine)
    wanted = sorted((v.name, index) for v in machine.study.variants for index in range(TRIALS))
    assert sorted((event.variant, event.index) for event in suggested) == wanted
    told = [(event.variant, event.index) for event in ended]
    assert len(told) == len(set(told)) >= len(wanted) - 1
    keys = [key for event in suggested for key in event.keys.values()]
    assert len(set(keys)) == len(keys), "a configuration was drawn twice"
    assert all(machine.folder.trial(key).outcome() is not None for key in keys)


laws = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@laws
@given(moment=st.integers(1, 3 * 2 * TRIALS - 2), searcher=st.sampled_from(["tpe", "quasi_random"]))
def test_a_search_killed_at_any_moment_is_the_search_that_nobody_disturbed(
    begin: Begin, moment: int, searcher: str
) -> None:
    whole, killed = begin(searcher), begin(searcher, killed_at=moment)
    whole.run()
    with pytest.raises(Killed):
        killed.run()
    killed.run()
    check_whole(killed)
    assert [sorted(map(str, events)) for events in events_of(killed)] == [
        sorted(map(str, events)) for events in events_of(whole)
    ]


@laws
@given(
    searcher=st.sampled_from(["tpe", "quasi_random", "random"]),
    lost=st.sets(st.integers(0, 30), max_size=12),
    killed_at=st.integers(1, 40),
    at_once=st.integers(1, 3),
    seeds=st.sampled_from([(100,), (100, 101)]),
)
def test_whatever_the_machines_do_the_budgets_are_spent_and_nothing_is_trained_again_that_ended(
    begin: Begin,
    searcher: str,
    lost: set[int],
    killed_at: int,
    at_once: int,
    seeds: tuple[int, ...],
) -> None:
    machine = begin(
        searcher,
        seeds=seeds,
        at_once=at_once,
        killed_at=killed_at,
        ends=lambda number: "given up" if number in lost else "completed",
    )
    for _ in range(20):
        begun = len(machine.begun)
        with suppress(Killed):
            machine.run()
        keys = machine.begun[begun:]
        assert len(set(keys)) == len(keys), "handed out again in the same run"
    check_whole(machine)
    ended = [key for number, key in enumerate(machine.begun) if number not in lost]
    assert len(set(ended)) == len(ended) == 2 * TRIALS * len(seeds)
    if searcher != "tpe":
        undisturbed = begin(searcher, seeds=seeds)
        undisturbed.run()
        assert points_of(machine) == points_of(undisturbed)


def test_what_was_given_up_is_told_to_nobody_and_trained_first_by_the_next_run(
    begin: Begin,
) -> None:
    machine = begin("tpe", ends=lambda number: "given up" if number == 1 else "completed")
    machine.run()
    lost = machine.begun[1]
    suggested, ended = events_of(machine)
    assert len(suggested) == len(machine.begun) == 2 * TRIALS, "the others go on"
    assert len(ended) == 2 * TRIALS - 1
    assert next_round(machine.study, machine.folder) is not None, "the round is not over"
    machine.run()
    assert machine.begun[2 * TRIALS :] == [lost]
    check_whole(machine)


def test_a_cluster_that_lets_nothing_end_does_not_spend_the_budget(begin: Begin) -> None:
    machine = begin("tpe", ends=lambda number: "given up")
    machine.run()
    assert len(events_of(machine)[0]) == GIVEN_UP_IN_A_ROW
    machine.ends = lambda number: "completed"
    machine.run()
    check_whole(machine)


@pytest.mark.parametrize("lost", [False, True])
def test_a_point_that_is_drawn_twice_is_trained_once_and_ends_twice(
    begin: Begin, lost: bool
) -> None:
    machine = begin("random", at_once=3)
    adamw, muon = machine.study.variants
    space = {"weight_decay": adamw.space["weight_decay"]}  # two values for three configurations
    variants = (adamw.model_copy(update={"space": space}), muon)
    machine.study = machine.study.model_copy(update={"variants": variants})
    freeze(machine.folder, make_plan(machine.study, DATA), source=machine.source, amend="fewer")
    machine.ends = lambda number: "given up" if lost and number < 2 else "completed"
    machine.run()
    machine.run()
    suggested, ended = events_of(machine)
    assert len(suggested) == len(ended) == 2 * TRIALS
    distinct = {key for event in suggested for key in event.keys.values()}
    assert len(distinct) < 2 * TRIALS
    assert sorted(machine.begun[2 * lost :]) == sorted(distinct)


@pytest.mark.parametrize("searcher", ["tpe", "random"])
def test_a_library_that_draws_other_points_does_not_stop_a_search(
    begin: Begin, searcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = begin(searcher, killed_at=7)
    with pytest.raises(Killed):
        machine.run()
    before = points_of(machine)
    tpe, draw = Tpe.point, tune.search.searcher.draw_points
    monkeypatch.setattr(Tpe, "point", lambda self, number, earlier: tpe(self, number + 9, earlier))
    monkeypatch.setattr(
        tune.search.searcher,
        "draw_points",
        lambda space, **options: draw(space, **{**options, "seed": 9}),
    )
    machine.run()
    check_whole(machine)
    assert before.items() <= points_of(machine).items()


def test_a_variant_that_joins_in_the_first_round_gets_the_same_budget(begin: Begin) -> None:
    machine = begin(
        "tpe", ends=lambda number: "given up" if number == 2 * TRIALS - 1 else "completed"
    )
    machine.run()
    before = events_of(machine)[0]
    adamw, muon = machine.study.variants
    late = muon.model_copy(update={"name": "late"})
    machine.study = machine.study.model_copy(update={"variants": (adamw, late, muon)})
    addition = freeze(machine.folder, make_plan(machine.study, DATA), source=machine.source)
    assert addition is not None
    machine.run()
    suggested, ended = events_of(machine)
    assert suggested[: len(before)] == before
    for name in ("adamw", "late", "muon"):
        assert sum(event.variant == name for event in suggested) == TRIALS
        assert sum(event.variant == name for event in ended) == TRIALS
