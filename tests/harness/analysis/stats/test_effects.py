"""Effect sizes against their definitions."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness.analysis.stats.effects import (
    a12,
    d_z,
    hedges_correction,
    hedges_g_av,
    independent_freedom,
    paired_freedom,
)
from harness.analysis.stats.mean_tests import paired_t

few = st.lists(st.integers(0, 9), min_size=3, max_size=7)


def test_d_z_is_t_over_the_root_of_n() -> None:
    x, y = np.random.default_rng(5).normal(size=(2, 7))
    statistic = paired_t(x, y).statistic
    assert statistic is not None
    assert d_z(x, y) == pytest.approx(statistic / np.sqrt(7))


@pytest.mark.parametrize(("v", "j"), [(2, 0.5642), (4, 0.7979), (9, 0.9139), (18, 0.9576)])
def test_the_hedges_correction_is_the_exact_one(v: int, j: float) -> None:
    """Hedges 1981, table: the approximation 1 - 3/(4v - 1) gives 0.5714 at v = 2."""
    assert hedges_correction(v) == pytest.approx(j, abs=5e-5)


@pytest.mark.parametrize("v", [1.99e4, 2.01e4, 1e9, float("inf")])
def test_the_hedges_correction_of_very_many_runs_is_smooth(v: float) -> None:
    assert hedges_correction(v) == pytest.approx(1.0 - 3.0 / (4.0 * v - 1.0), abs=1e-9)


def mean_effect(
    rng: np.random.Generator, *, seeds: int, r: float, sd: float, paired: bool
) -> float:
    """The mean g of 1,500 studies over the true one. So large a difference adds no noise to it."""
    difference = 50.0
    base = rng.normal(size=(1_500, seeds))
    own = sd * (r * base + np.sqrt(1.0 - r * r) * rng.normal(size=base.shape)) + difference
    effects = [hedges_g_av(x, y, paired=paired) for x, y in zip(own, base, strict=True)]
    return float(np.mean(np.array(effects))) * np.sqrt((1.0 + sd * sd) / 2.0) / difference


BIAS = {3: 0.05, 4: 0.03, 5: 0.02, 8: 0.01}
"""As the docstring states it; the simulation adds 4 of its standard errors."""


@pytest.mark.parametrize("seeds", [3, 5, 8])
@pytest.mark.parametrize(("r", "sd"), [(0.0, 1.0), (0.5, 2.0), (0.9, 1.0)])
def test_g_of_pairs_is_nearly_unbiased(seeds: int, r: float, sd: float) -> None:
    """With n - 1 degrees of freedom it would be 29, 12 and 6 % too small without correlation."""
    found = mean_effect(np.random.default_rng(61), seeds=seeds, r=r, sd=sd, paired=True)
    allowance = BIAS[seeds] + 4.0 * 0.8 / np.sqrt(1_500 * (seeds - 2))
    assert abs(found - 1.0) < allowance


@pytest.mark.parametrize("seeds", [3, 8])
@pytest.mark.parametrize("sd", [1.0, 4.0])
def test_g_of_independent_runs_is_nearly_unbiased(seeds: int, sd: float) -> None:
    """With 2 n - 2 degrees of freedom it would be 17 % too large at n = 3 and sd = 4."""
    found = mean_effect(np.random.default_rng(62), seeds=seeds, r=0.0, sd=sd, paired=False)
    assert abs(found - 1.0) < BIAS[seeds] + 4.0 * 0.8 / np.sqrt(1_500 * (seeds - 2))


def test_the_degrees_of_freedom_approach_those_of_the_population() -> None:
    rng = np.random.default_rng(63)
    base = rng.normal(size=100_000)
    for r in (0.0, 0.5, 0.9):
        own = r * base + np.sqrt(1.0 - r * r) * rng.normal(size=base.size)
        freedom = paired_freedom(own, base) / (base.size - 1)
        assert freedom == pytest.approx(2.0 / (1.0 + r * r), rel=0.02)
    freedom = independent_freedom(3.0 * rng.normal(size=40_000), rng.normal(size=20_000))
    assert freedom == pytest.approx(100 / (81 / 40_000 + 1 / 20_000), rel=0.02)


values = st.lists(st.floats(-5.0, 5.0), min_size=3, max_size=8)


@settings(max_examples=200, deadline=None)
@given(values, values, st.floats(0.01, 100.0), st.floats(-10.0, 10.0), st.booleans())
def test_an_effect_size_has_no_unit(x, y, unit: float, shift: float, paired: bool) -> None:
    n = min(len(x), len(y))
    a, b = np.array(x[:n]), np.array(y[:n])
    assume(min(np.ptp(a), np.ptp(b)) > 1e-3)
    found = hedges_g_av(a, b, paired=paired)
    assert found is not None
    scaled = hedges_g_av(unit * a + shift, unit * b + shift, paired=paired)
    assert scaled == pytest.approx(found, rel=1e-6, abs=1e-9)
    assert hedges_g_av(b, a, paired=paired) == pytest.approx(-found, rel=1e-6, abs=1e-9)
    assert paired_freedom(a, b) >= (n - 1) * (1.0 - 1e-9)
    assert n - 1 <= independent_freedom(a, b) * (1.0 + 1e-9)


def test_runs_in_lockstep_have_the_freedom_of_one_side() -> None:
    x = np.array([1.0, 2.0, 4.0, 8.0])
    assert paired_freedom(x, x + 3.0) == pytest.approx(3.0)
    assert paired_freedom(x, np.full(4, 2.0)) == pytest.approx(3.0)
    assert independent_freedom(x, np.full(3, 2.0)) == pytest.approx(3.0)


def test_effects_without_noise_are_undefined() -> None:
    assert d_z([1.0, 2.0, 3.0], [2.0, 3.0, 4.0]) is None
    assert hedges_g_av([1.0, 1.0, 1.0], [2.0, 2.0, 2.0], paired=True) is None


@settings(max_examples=80, deadline=None)
@given(few, few)
def test_a12_counts_the_pairs_that_the_variant_wins(x: list[int], y: list[int]) -> None:
    wins = sum((a < b) + (a == b) / 2 for a in x for b in y)
    assert a12(x, y) == pytest.approx(wins / (len(x) * len(y)))
    assert a12(x, y) + a12(y, x) == pytest.approx(1.0)


def test_a12_of_no_runs_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one run"):
        a12([], [1.0])
    with pytest.raises(ValueError, match="above 1"):
        hedges_correction(1)
