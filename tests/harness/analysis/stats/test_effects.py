"""Effect sizes against their definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis.stats.effects import a12, d_z, hedges_correction, hedges_g_av
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


def test_hedges_g_av_is_unbiased_over_many_small_studies() -> None:
    rng = np.random.default_rng(6)
    y, x = rng.normal(0.0, 1.0, size=(4000, 10)), rng.normal(1.0, 1.0, size=(4000, 10))
    effects = [hedges_g_av(a, b, paired=False) for a, b in zip(x, y, strict=True)]
    assert np.mean(np.array(effects, dtype=float)) == pytest.approx(1.0, abs=0.03)


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
