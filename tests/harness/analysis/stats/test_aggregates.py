"""Aggregates against the numbers of their sources."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis.stats.aggregates import (
    expected_best_of_k,
    interquartile_mean,
    probability_of_improvement,
)

SCORES = [[1, 2], [2, 2], [1, 1], [2, 1]]


def test_the_interquartile_mean_agrees_with_the_reference_number() -> None:
    assert interquartile_mean(SCORES) == 1.5


def test_the_interquartile_mean_ignores_one_wild_run() -> None:
    assert interquartile_mean([1.0, 2.0, 3.0, 1e9]) == 2.5


def test_the_probability_of_improvement_agrees_with_the_reference_number() -> None:
    over = [[1, 1], [2, 2], [3, 3]]
    found = probability_of_improvement(SCORES, over, lower_is_better=False)
    assert found == pytest.approx(1 / 3)
    assert probability_of_improvement(SCORES, over) == pytest.approx(2 / 3)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=6))
def test_the_best_of_k_agrees_with_enumeration(values: list[int]) -> None:
    expected = [
        np.mean([min(chosen) for chosen in itertools.combinations(values, k)])
        for k in range(1, len(values) + 1)
    ]
    assert expected_best_of_k(values) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "call",
    [
        lambda: interquartile_mean([]),
        lambda: interquartile_mean([1.0, float("nan")]),
        lambda: probability_of_improvement([1.0], [1.0]),
        lambda: expected_best_of_k([]),
        lambda: expected_best_of_k([1.0, float("inf")]),
    ],
)
def test_gaps_are_refused(call) -> None:
    with pytest.raises(ValueError, match=r"finite|must be"):
        call()
