"""Exact tests against enumeration by hand."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.analysis.stats.permutation import (
    ARRANGEMENTS,
    FEWEST_DRAWN,
    VALUES_DRAWN,
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
def test_the_smallest_p_of_n_seeds_is_the_known_one(pairs: int, p: float) -> None:
    assert minimum_sign_flip_p(pairs) == p


def generators() -> list[np.random.Generator | None]:
    return [None, *(np.random.default_rng(seed) for seed in range(4))]


@pytest.mark.parametrize("pairs", range(3, 26))
def test_the_smallest_p_of_pairs_is_the_smallest_that_comes(pairs: int) -> None:
    """All differences of one sign and none alike: nothing is more extreme.

    From 15 pairs on the arrangements are drawn, and the observed one may be among them.
    """
    d = np.arange(1.0, pairs + 1.0)
    found = [sign_flip_p(d, rng=rng) for rng in generators()]
    assert min(found) == pytest.approx(minimum_sign_flip_p(pairs), rel=1e-12)


@pytest.mark.parametrize(
    "sizes", [(3, 3), (4, 4), (3, 5), (8, 8), (3, 48), (9, 8), (9, 9), (3, 60)]
)
def test_the_smallest_p_of_two_groups_is_the_smallest_that_comes(sizes: tuple[int, int]) -> None:
    values = np.arange(1.0, sum(sizes) + 1.0)
    found = [permutation_p(values[: sizes[0]], values[sizes[0] :], rng=rng) for rng in generators()]
    assert min(found) == pytest.approx(minimum_permutation_p(*sizes), rel=1e-12)


@given(st.integers(3, 300), st.integers(3, 300))
def test_no_smallest_p_is_promised_below_the_enumerated_or_the_drawn_one(n: int, m: int) -> None:
    drawn = 2 / (ARRANGEMENTS + 1)
    assert minimum_sign_flip_p(n) == max(2.0 ** (1 - n), drawn)
    assert minimum_permutation_p(n, m) == max(2 / math.comb(n + m, n), drawn)


@pytest.mark.parametrize("values", [1_000, 2_500, 100_000, 10_000_000])
def test_a_long_table_draws_fewer_but_never_too_few(values: int) -> None:
    smallest = minimum_permutation_p(values // 2, values // 2)
    assert minimum_sign_flip_p(values) == smallest
    assert 1e-4 <= smallest <= 1e-3
    assert (2 / smallest - 1) * values <= max(VALUES_DRAWN, FEWEST_DRAWN * values)


def test_a_long_table_needs_no_more_memory_than_a_short_one() -> None:
    """All arrangements of 20,000 values at once would take 640 MB."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(2, 10_000))
    tracemalloc.start()
    try:
        p = sign_flip_p(x - y), permutation_p(x, y)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100e6
    # So many values are normal enough for t to be the exact test in all but name.
    assert p == pytest.approx(
        (stats.ttest_rel(x, y).pvalue, stats.ttest_ind(x, y).pvalue), abs=0.04
    )


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
