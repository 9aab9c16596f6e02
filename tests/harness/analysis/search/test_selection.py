"""Which configuration wins and when a space was too narrow."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis.search.results import Configuration
from harness.analysis.search.selection import best_of, find_edges, score_sd
from harness.study.search_space import Choice, Grid, Int, LogUniform, Space

RATE = LogUniform(kind="loguniform", low=0.001, high=1.0)


def tried(index: int, score: float | None, **point: float) -> Configuration:
    losses = {} if score is None else {100: score}
    word = "diverged" if score is None else "completed"
    return Configuration(
        index=index, round=0, point=point, keys={100: "k"}, outcome=word, losses=losses, score=score
    )


def edges(
    space: Space, *configurations: Configuration, sigma: float | None = None
) -> set[tuple[str, str]]:
    found = find_edges(space, configurations, sigma=sigma, edge_fraction=0.05)
    return {(edge.setting, edge.border) for edge in found}


def test_the_lowest_score_wins_and_what_diverged_has_none() -> None:
    best = best_of([tried(0, 3.0), tried(1, None), tried(2, 2.5), tried(3, 2.5)])
    assert best is not None
    assert best.index == 2
    assert best_of([tried(0, None)]) is None


def test_a_best_value_at_the_border_is_an_edge() -> None:
    assert edges({"lr": RATE}, tried(0, 3.0, lr=0.03), tried(1, 2.0, lr=0.99)) == {("lr", "high")}
    assert edges({"lr": RATE}, tried(0, 3.0, lr=0.99), tried(1, 2.0, lr=0.03)) == set()
    assert edges({"lr": RATE}, tried(1, 2.0, lr=0.0011)) == {("lr", "low")}


def test_a_value_within_two_sigma_of_the_best_counts_as_well() -> None:
    both = (tried(0, 2.0, lr=0.03), tried(1, 2.19, lr=0.99))
    assert edges({"lr": RATE}, *both) == set()
    assert edges({"lr": RATE}, *both, sigma=0.1) == {("lr", "high")}
    assert edges({"lr": RATE}, *both, sigma=0.09) == set()


def test_a_natural_limit_a_choice_and_a_single_value_have_no_edge() -> None:
    decay = RATE.model_copy(update={"limits": ("low",)})
    assert edges({"decay": decay}, tried(0, 2.0, decay=0.001)) == set()
    assert edges({"scale": Choice(kind="choice", values=(1, 2))}, tried(0, 2.0, scale=1)) == set()
    assert edges({"lr": Grid(kind="grid", values=(0.1,))}, tried(0, 2.0, lr=0.1)) == set()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 4))
def test_on_a_grid_the_first_and_the_last_value_are_the_edges(position: int) -> None:
    grid = Grid(kind="grid", values=(1.0, 2.0, 4.0, 8.0, 16.0))
    found = edges({"x": grid}, tried(0, 2.0, x=grid.values[position]))
    assert found == {0: {("x", "low")}, 4: {("x", "high")}}.get(position, set())


def test_a_whole_number_is_at_the_edge_only_when_it_is_the_border() -> None:
    steps = Int(kind="int", low=3, high=12)
    assert edges({"n": steps}, tried(0, 2.0, n=12)) == {("n", "high")}
    assert edges({"n": steps}, tried(0, 2.0, n=11)) == set()


def on_seeds(index: int, *losses: float) -> Configuration:
    return Configuration(
        index=index,
        round=0,
        point={},
        keys=dict.fromkeys(range(len(losses)), "k"),
        outcome="completed",
        losses=dict(enumerate(losses)),
        score=sum(losses) / len(losses),
    )


def test_the_noise_of_a_score_is_that_of_a_mean_over_seeds() -> None:
    sd = score_sd([on_seeds(0, 1.0, 1.2), on_seeds(1, 2.0, 2.4)])
    # Residuals of 0.05 in all four cells, one degree of freedom, two seeds.
    assert sd == pytest.approx(math.sqrt(4 * 0.05**2 / 1 / 2))
    assert score_sd([tried(0, 1.0), tried(1, 2.0)]) is None
    assert score_sd([on_seeds(0, 1.0, 1.2)]) is None


def test_the_luck_of_a_seed_that_all_configurations_share_is_no_noise() -> None:
    calm = [on_seeds(i, 1.0 + i, 1.1 + i + 0.01 * i) for i in range(3)]
    shifted = [on_seeds(i, 1.0 + i, 6.1 + i + 0.01 * i) for i in range(3)]
    assert score_sd(shifted) == pytest.approx(score_sd(calm))
