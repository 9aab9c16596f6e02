"""What a searcher hears of a configuration, and what it makes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import TypeAdapter

from harness.runs.search_log import Ended, Suggested
from harness.study.search_space import Dimension, Point
from harness.training.records import Outcome, Report
from tune.search.samplers import Earlier, Tpe
from tune.search.telling import Run, verdict_of

WORST = 5.8
SUGGESTED = Suggested(
    variant="muon", round=0, index=2, point={"lr": 0.1}, keys={1: "a" * 16, 2: "b" * 16}
)


@pytest.fixture(autouse=True)
def local_ray() -> None:
    """None is needed here."""


def run(word: str, *losses: float) -> Run:
    """A training run that reported these losses at steps 2, 4, .. and then ended."""
    reports = [
        Report.model_construct(step=2 * number, validation_loss=loss)
        for number, loss in enumerate(losses, start=1)
    ]
    last = losses[-1] if losses and word in ("completed", "stopped") else None
    values = {"outcome": word, "step": 2 * len(losses), "validation_loss": last}
    return Outcome.model_validate(values), reports


@pytest.mark.parametrize(
    ("runs", "state", "told", "step"),
    [
        ([run("completed", 4, 3, 2), run("completed", 4, 3, 2.5)], "complete", 2.25, None),
        ([run("completed", 4, 3, 2), run("diverged", 4)], "complete", (2 + WORST) / 2, None),
        ([run("completed", 4, 3, 2), run("stopped", 4.5, 4)], "pruned", 3.5, 4),
        ([run("stopped", 4.2), run("stopped", 4.4, 4)], "pruned", 4.3, 2),
        ([run("completed", 4, 3, 2), run("failed")], "fail", None, None),
        ([run("diverged", 4), run("out_of_memory")], "fail", None, None),
    ],
)
def test_only_what_the_training_did_becomes_a_loss(
    runs: list[Run], state: str, told: float | None, step: int | None
) -> None:
    ended = verdict_of(SUGGESTED, runs, worst_loss=WORST)
    assert (ended.state, ended.step) == (state, step)
    assert ended.told == (None if told is None else pytest.approx(told))
    assert Ended.model_validate_json(ended.model_dump_json()) == ended


@pytest.mark.parametrize(
    ("outcome", "state", "told"),
    [
        ("completed", "complete", 3.0),
        ("diverged", "complete", 3.0),
        ("stopped", "pruned", 3.0),
        ("failed", "fail", None),
        ("out_of_memory", "fail", None),
    ],
)
def test_a_line_of_version_0_1_0_is_read(outcome: str, state: str, told: float | None) -> None:
    line = {"event": "ended", "variant": "a", "index": 0, "outcome": outcome, "told": 3.0}
    ended = Ended.model_validate_json(json.dumps(line))
    assert (ended.state, ended.told, ended.step) == (state, told, None)


SPACE = TypeAdapter(dict[str, Dimension]).validate_python(
    {
        "lr": {"kind": "loguniform", "low": 0.001, "high": 0.1},
        "steps": {"kind": "int", "low": 3, "high": 10},
        "nesterov": {"kind": "choice", "values": [True, False]},
    }
)


def earlier(rate: float, state: str | None = "complete", told: float | None = 3.0) -> Earlier:
    point: Point = {"lr": rate, "steps": 5, "nesterov": True}
    if state is None:
        return point, None
    values: dict[str, Any] = {"variant": "a", "index": 0, "outcome": "completed"}
    return point, Ended.model_validate({**values, "state": state, "told": told})


KNOWN = [earlier(0.001 * 1.5**n, told=3.0 + n) for n in range(8)]


def drawn(*more: Earlier) -> Point:
    return Tpe(SPACE, trials=8, seed=1).point(8, [*KNOWN, *more])


def test_a_point_follows_from_the_seed_and_the_earlier_ones_alone() -> None:
    assert drawn() == drawn()
    assert drawn() != Tpe(SPACE, trials=8, seed=2).point(8, KNOWN)
    assert drawn() != Tpe(SPACE, trials=8, seed=1).point(9, KNOWN)
    assert drawn() != drawn(earlier(0.09, told=0.5)), "it learns"


def test_a_failure_teaches_nothing() -> None:
    assert drawn(earlier(0.002, "fail", None)) == drawn()


def test_a_pruned_point_is_never_among_the_best_however_low_its_loss() -> None:
    assert drawn(earlier(0.09, "pruned", 0.1)) == drawn(earlier(0.09, "pruned", 9.0))
    assert drawn(earlier(0.09, "pruned", 0.1)) != drawn(earlier(0.09, "complete", 0.1))


def test_the_next_point_keeps_away_from_one_that_is_still_open() -> None:
    assert drawn((drawn(), None)) != drawn()


def test_a_point_outside_an_amended_space_is_left_out() -> None:
    assert drawn(earlier(0.5, told=0.1)) == drawn()
    assert drawn(({"momentum": 0.9}, None)) == drawn()
