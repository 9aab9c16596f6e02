"""Exact tests against enumeration by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis.stats.permutation import (
    minimum_permutation_p,
    minimum_sign_flip_p,
    permutation_p,
    sign_flip_p,
)

whole = st.lists(st.integers(-6, 6), min_size=3, max_size=6)


@settings(max_examples=60, deadline=None)
@given(whole)
def test_sign_flips_agree_with_enumeration(d: list[int]) -> None:
    observed = abs(sum(d))
    flips = list(itertools.product((-1, 1), repeat=len(d)))
    extreme = sum(abs(np.dot(signs, d)) >= observed for signs in flips)
    assert sign_flip_p(d) == pytest.approx(extreme / len(flips))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-6, 6), min_size=6, max_size=8))
def test_relabelling_agrees_with_enumeration(values: list[int]) -> None:
    size = len(values) // 2
    x, y = values[:size], values[size:]

    def difference(chosen: tuple[int, ...]) -> float:
        inside = [values[i] for i in chosen]
        outside = [values[i] for i in range(len(values)) if i not in chosen]
        return float(np.mean(inside) - np.mean(outside))

    all_of_them = [difference(c) for c in itertools.combinations(range(len(values)), size)]
    observed = difference(tuple(range(size)))
    low = np.mean([value <= observed + 1e-9 for value in all_of_them])
    high = np.mean([value >= observed - 1e-9 for value in all_of_them])
    assert permutation_p(x, y) == pytest.approx(min(1.0, 2 * min(low, high)))


@pytest.mark.parametrize(
    ("pairs", "p"), [(3, 0.25), (4, 0.125), (5, 0.0625), (6, 0.03125), (7, 2**-6), (8, 2**-7)]
)
def test_the_smallest_p_of_n_seeds_is_attained(pairs: int, p: float) -> None:
    assert minimum_sign_flip_p(pairs) == p
    assert sign_flip_p(np.arange(1.0, pairs + 1.0)) == pytest.approx(p)


def test_the_smallest_p_of_two_groups_is_attained() -> None:
    assert minimum_permutation_p(4, 4) == pytest.approx(2 / 70)
    assert permutation_p([1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]) == pytest.approx(2 / 70)


def test_many_seeds_are_drawn_and_the_same_every_time() -> None:
    d = np.random.default_rng(3).normal(0.5, 1.0, size=18)
    assert sign_flip_p(d) == sign_flip_p(d)
    signs = 1 - 2 * ((np.arange(2**18)[:, None] >> np.arange(18)) & 1)
    exact = float(np.mean(np.abs(signs @ d) >= abs(d.sum()) - 1e-12))
    assert sign_flip_p(d, rng=np.random.default_rng(4)) == pytest.approx(exact, abs=0.01)


def test_no_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        minimum_sign_flip_p(0)
    with pytest.raises(ValueError, match="at least 1"):
        minimum_permutation_p(0, 3)
