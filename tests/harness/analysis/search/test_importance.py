"""The importance of settings: which one decided, and when nothing can be told from chance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from harness.analysis.search.importance import FEWEST, importance, importances
from harness.analysis.search.results import Configuration, Ledger, SearchResult, VariantSearch
from harness.study.search_space import Choice, LogUniform, Point, Space

SPACE: Space = {
    "lr": LogUniform(kind="loguniform", low=0.001, high=1.0),
    "momentum": LogUniform(kind="loguniform", low=0.001, high=1.0),
    "nesterov": Choice(kind="choice", values=(True, False)),
}


def searched(
    score: Callable[[Point], float | None],
    *,
    count: int = 24,
    space: Space = SPACE,
    outcome: Callable[[float | None], str] = lambda s: "completed" if s is not None else "diverged",
) -> VariantSearch:
    random = np.random.default_rng(3)
    points = [{k: d.at(float(random.random())) for k, d in space.items()} for _ in range(count)]
    return VariantSearch(
        variant="muon",
        space=dict(space),
        configurations=tuple(
            Configuration(
                index=index,
                round=0,
                point=point,
                keys={},
                outcome=outcome(score(point)),
                losses={},
                score=score(point),
            )
            for index, point in enumerate(points)
        ),
        chosen=None,
        sigma=None,
        edges=(),
        finished=True,
        ledger=Ledger(configurations=count, training_runs=count, tokens=0, hours=0.0),
    )


def by_rate(point: Point) -> float:
    return float(np.log(point["lr"] / 0.03) ** 2)


def noise(point: Point) -> float:
    return float(np.random.default_rng(int(1e9 * float(point["lr"]))).normal())


def test_the_setting_that_decides_comes_first_and_beyond_chance() -> None:
    found = importance(searched(by_rate))
    assert next(iter(found.shares)) == "lr"
    assert found.shares["lr"] > 0.7
    assert sum(found.shares.values()) == pytest.approx(1.0)
    assert found.beyond_chance("lr")
    assert not found.beyond_chance("momentum")
    assert (found.configurations, found.better) == (24, 12)


def test_shares_of_pure_noise_add_up_to_one_as_well_and_are_told_as_chance() -> None:
    found = importance(searched(noise))
    assert sum(found.shares.values()) == pytest.approx(1.0)
    assert not any(found.beyond_chance(setting) for setting in found.shares)


def test_a_small_search_says_why_it_says_nothing() -> None:
    found = importance(searched(by_rate, count=FEWEST - 1))
    assert found.shares == {}
    assert found.why_not is not None
    assert "15 configurations" in found.why_not


def test_what_diverged_is_none_of_the_better_ones_and_tells_of_the_setting() -> None:
    found = importance(searched(lambda point: None if point["lr"] > 0.1 else noise(point)))
    assert next(iter(found.shares)) == "lr"
    assert found.beyond_chance("lr")


def test_what_failed_is_left_out() -> None:
    failing = searched(
        lambda point: None if point["lr"] > 0.1 else by_rate(point),
        outcome=lambda score: "failed" if score is None else "completed",
    )
    lost = sum(c.score is None for c in failing.configurations)
    assert lost > 0
    assert importance(failing).configurations == 24 - lost


def test_one_setting_alone_has_no_importance() -> None:
    alone = searched(by_rate, space={"lr": SPACE["lr"]})
    one_value = searched(
        by_rate, space={"lr": SPACE["lr"], "k": Choice(kind="choice", values=(1,))}
    )
    for found in (alone, one_value):
        result = SearchResult(searcher="random", variants={"muon": found})
        assert importances(result) == ()


def test_the_same_search_gives_the_same_answer() -> None:
    assert importance(searched(by_rate)) == importance(searched(by_rate))
