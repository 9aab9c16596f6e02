"""Planning: power, detectable differences, seeds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.analysis.stats.power import (
    capability,
    detectable_difference,
    pooled_sd,
    power_of_t,
    power_of_tost,
    seeds_for_equivalence,
    seeds_needed,
    seeds_to_settle,
)


@pytest.mark.parametrize("design", ["paired", "unpaired"])
def test_power_agrees_with_simulation(design) -> None:
    rng = np.random.default_rng(11)
    x = rng.normal(0.8, 1.0, size=(40_000, 6))
    if design == "paired":
        p = stats.ttest_1samp(x, 0.0, axis=1).pvalue
    else:
        t = stats.ttest_ind(x, rng.normal(0.0, 1.0, size=x.shape), axis=1).statistic
        p = 2 * stats.t.sf(np.abs(t), 5)
    found = float(np.mean(p < 0.05))
    assert power_of_t(0.8, sd=1.0, seeds=6, design=design) == pytest.approx(found, abs=0.01)


@pytest.mark.parametrize("difference", [0.0, 0.4])
def test_power_of_equivalence_agrees_with_simulation(difference: float) -> None:
    rng = np.random.default_rng(12)
    x = rng.normal(difference, 1.0, size=(40_000, 8))
    above = stats.ttest_1samp(x, -1.2, axis=1, alternative="greater").pvalue
    below = stats.ttest_1samp(x, 1.2, axis=1, alternative="less").pvalue
    found = float(np.mean(np.maximum(above, below) < 0.05))
    assert power_of_tost(1.2, sd=1.0, seeds=8, difference=difference) == pytest.approx(
        found, abs=0.01
    )


def test_power_without_an_effect_is_alpha() -> None:
    assert power_of_t(0.0, sd=1.0, seeds=5, alpha=0.01) == pytest.approx(0.01)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0.0, 50.0),
    st.integers(3, 200),
    st.floats(1e-4, 0.2),
    st.sampled_from(["paired", "unpaired"]),
)
def test_power_is_a_probability_for_every_argument(difference, seeds, alpha, design) -> None:
    """`nct.cdf` returns NaN for some of them, `nct.sf` does not."""
    found = power_of_t(difference, sd=1.0, seeds=seeds, alpha=alpha, design=design)
    least = alpha if design == "paired" else 0.0  # Welch's test is cautious
    assert least - 1e-9 <= found <= 1.0
    assert found == power_of_t(-difference, sd=1.0, seeds=seeds, alpha=alpha, design=design)


@pytest.mark.parametrize("seeds", [3, 5, 8, 20])
def test_the_detectable_difference_is_detected_with_the_power(seeds: int) -> None:
    difference = detectable_difference(sd=0.01, seeds=seeds, power=0.9)
    assert power_of_t(difference, sd=0.01, seeds=seeds) == pytest.approx(0.9)


def test_the_needed_seeds_are_the_fewest_that_suffice() -> None:
    n = seeds_needed(0.5, sd=1.0, alpha=0.05, power=0.8)
    assert n == 34  # Cohen 1988, table 2.4.1: 33 for the normal approximation plus one
    assert power_of_t(0.5, sd=1.0, seeds=n) >= 0.8 > power_of_t(0.5, sd=1.0, seeds=n - 1)


def test_a_difference_that_nobody_can_afford_needs_no_number() -> None:
    assert seeds_needed(1e-6, sd=1.0) is None
    assert seeds_needed(0.0, sd=1.0) is None
    assert seeds_for_equivalence(0.1, sd=1.0, difference=0.1) is None


def test_the_seeds_for_equivalence_are_the_fewest_that_suffice() -> None:
    n = seeds_for_equivalence(0.5, sd=1.0)
    assert n is not None
    assert power_of_tost(0.5, sd=1.0, seeds=n) >= 0.8 > power_of_tost(0.5, sd=1.0, seeds=n - 1)


def test_a_plan_says_what_its_seeds_can_show() -> None:
    few = capability(5, sigma=0.01)
    assert few.minimum_exact_p == 0.0625
    assert not few.exact_test_can_decide
    assert few.detectable_difference == pytest.approx(0.01 * few.detectable_in_sigmas)
    assert few.detectable_in_sigmas == pytest.approx(
        detectable_difference(sd=np.sqrt(2.0), seeds=5)
    )
    assert capability(8).exact_test_can_decide
    assert capability(8).detectable_difference is None


def test_correlated_pairs_and_fewer_comparisons_show_more() -> None:
    plain = capability(8, comparisons=4).detectable_in_sigmas
    assert capability(8, comparisons=4, correlation=0.8).detectable_in_sigmas < plain
    assert capability(8, comparisons=1).detectable_in_sigmas < plain
    assert capability(8, comparisons=4, design="unpaired").correlation == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: power_of_t(1.0, sd=0.0, seeds=5), "standard deviation"),
        (lambda: power_of_t(1.0, sd=1.0, seeds=2), "at least 3"),
        (lambda: power_of_tost(0.0, sd=1.0, seeds=5), "margin"),
        (lambda: detectable_difference(sd=1.0, seeds=5, power=0.01), "above alpha"),
        (lambda: capability(5, comparisons=0), "comparisons"),
        (lambda: capability(5, correlation=1.0), "correlation"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_the_noise_of_earlier_runs_is_pooled_within_variants() -> None:
    groups = [[3.1, 3.2, 3.3], [9.0, 9.1], [5.0]]
    assert pooled_sd(groups) == pytest.approx(np.sqrt((0.02 + 0.005) / 3))
    assert pooled_sd([[1.0, 3.0]]) == pytest.approx(np.std([1.0, 3.0], ddof=1))
    for silent in ([], [[1.0]], [[2.0, 2.0, 2.0]]):
        with pytest.raises(ValueError, match="no noise"):
            pooled_sd(silent)


def test_what_settles_a_comparison_is_the_cheaper_of_difference_and_equivalence() -> None:
    difference = seeds_needed(0.5, sd=1.0, alpha=0.05 / 4)
    equal = seeds_for_equivalence(2.0, sd=1.0, difference=0.5, alpha=0.05 / 4 / 2)
    assert equal < difference
    settle = {"sd": 1.0, "alpha": 0.05, "comparisons": 4}
    assert seeds_to_settle(0.5, **settle) == difference
    assert seeds_to_settle(0.5, margin=2.0, **settle) == equal
    assert seeds_to_settle(0.5, margin=0.4, **settle) == difference
    assert seeds_to_settle(0.0, **settle) is None
