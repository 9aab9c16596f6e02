"""Scores over tasks and seeds: reference numbers, lost runs, and their laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis.stats.aggregates import interquartile_mean, probability_of_improvement
from harness.analysis.stats.stratified import Drawn, Stratum, observed, resample
from harness.analysis.stats.suite_scores import (
    differences,
    improvement,
    log_speedups,
    mean_ranks,
    median_costs,
    order_values,
    pooled_interquartile_mean,
)

LOST = float("inf")


def task(*, paired: bool = True, costs: dict[str, list[float]] | None = None, **losses) -> Drawn:
    return observed(
        Stratum(
            losses={name: np.array(own, dtype=float) for name, own in losses.items()},
            costs=None
            if costs is None
            else {n: np.array(c, dtype=float) for n, c in costs.items()},
            paired=paired,
        )
    )


def test_the_interquartile_mean_agrees_with_the_reference_number() -> None:
    parts = [np.array([[1.0, 2.0, 1.0, 2.0]]), np.array([[2.0, 2.0, 1.0, 1.0]])]
    assert pooled_interquartile_mean(parts).tolist() == [1.5]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=15))
def test_the_interquartile_mean_is_that_of_one_resample(values: list[float]) -> None:
    found = pooled_interquartile_mean([np.array([values])])[0]
    assert found == pytest.approx(interquartile_mean(values), abs=1e-9)


def test_the_probability_of_improvement_agrees_with_the_reference_number() -> None:
    # Scores of the source are better when higher.
    tasks = [
        task(x=[-1, -2, -1, -2], y=[-1, -2, -3], paired=False),
        task(x=[-2, -2, -1, -1], y=[-1, -2, -3], paired=False),
    ]
    assert improvement(tasks, "x", "y") == pytest.approx([1 / 3])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=6),
    st.booleans(),
)
def test_the_data_as_they_are_give_the_plain_probability(pairs, paired) -> None:
    x, y = (list(map(float, side)) for side in zip(*pairs, strict=True))
    found = improvement([task(x=x, y=y, paired=paired)], "x", "y")[0]
    expected = probability_of_improvement([[v] for v in x], [[v] for v in y])
    assert found == pytest.approx(expected)
    assert improvement([task(x=x, y=y, paired=paired)], "y", "x")[0] == pytest.approx(1 - found)


def test_a_seed_drawn_twice_does_not_count_its_luck_twice() -> None:
    """The runs of a seed share their luck, and only n of n^2 pairs of runs share a seed."""
    rng = np.random.default_rng(0)
    luck = rng.normal(size=5)
    own = Stratum(losses={"x": luck - 0.1, "y": luck}, costs=None, paired=True)
    plain = improvement([observed(own)], "x", "y")[0]
    resampled = improvement([resample(own, rng, resamples=4000)], "x", "y")
    assert resampled.mean() == pytest.approx(plain, abs=0.03)
    assert improvement([task(x=[1.0, 1.0], y=[2.0, 2.0])], "x", "y")[0] == 1.0


def test_differences_of_pairs_are_taken_seed_by_seed() -> None:
    own = task(x=[1.0, 5.0], y=[2.0, 2.0])
    assert differences(own, "x", "y").tolist() == [[-1.0, 3.0]]
    apart = task(x=[1.0, 5.0], y=[2.0, 4.0], paired=False)
    assert differences(apart, "x", "y").tolist() == [[-2.0, 2.0]]


def test_a_lost_run_is_the_worst_and_two_lost_runs_are_alike() -> None:
    own = task(x=[LOST, LOST, 1.0], y=[1.0, LOST, LOST])
    assert differences(own, "x", "y").tolist() == [[LOST, 0.0, -LOST]]
    speeds = task(x=[1, 1, 1], y=[1, 1, 1], costs={"x": [LOST, LOST, 2], "y": [1, LOST, LOST]})
    assert log_speedups(speeds, "x", "y").tolist() == [[-LOST, 0.0, LOST]]


def test_half_of_the_runs_must_arrive() -> None:
    costs = {"x": [1.0, 3.0, LOST], "y": [1.0, LOST, LOST]}
    found = median_costs([task(x=[1, 1, 1], y=[1, 1, 1], costs=costs)], ["x", "y"])
    assert found.tolist() == [[[3.0], [LOST]]]


def test_a_contestant_that_lost_a_run_ranks_behind_those_that_lost_none() -> None:
    own = task(x=[1.0, 1.0, LOST], y=[9.0, 9.0, 9.0], z=[LOST, LOST, LOST])
    values = order_values([own], ["x", "y", "z"])
    assert mean_ranks(values).tolist() == [[2.0, 1.0, 3.0]]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=3, max_size=3), st.floats(-5.0, 5.0))
def test_nothing_asks_for_the_level_of_a_task(levels, shift) -> None:
    one = task(x=[float(v) for v in levels], y=[1.0, 2.0, 3.0])
    moved = task(x=[v + shift for v in levels], y=[1.0 + shift, 2.0 + shift, 3.0 + shift])
    assert differences(moved, "x", "y") == pytest.approx(differences(one, "x", "y"), abs=1e-9)
