"""t tests: the reference numbers, agreement with SciPy, and what happens without noise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.analysis.stats.mean_tests import (
    CONSTANT_DIFFERENCE,
    NO_NOISE,
    one_sample_t,
    paired_t,
    welch_t,
)

law = settings(max_examples=60, deadline=None)
losses = st.floats(1.0, 10.0)
pairs = st.lists(st.tuples(losses, losses), min_size=3, max_size=8)
shifts = st.floats(-100.0, 100.0)


@pytest.mark.parametrize(
    ("values", "p"),
    [
        ([3.2779, 3.2779, 3.2789, 3.2778, 3.2789, 3.2785, 3.2806], 0.00533439),
        ([3.2745, 3.2747, 3.2771, 3.2794, 3.2767], 0.00855446),
        ([3.2789, 3.2772, 3.2804, 3.277, 3.2792], 0.0423349),
    ],
)
def test_a_mean_below_a_target_agrees_with_the_reference_numbers(
    values: list[float], p: float
) -> None:
    result = one_sample_t(values, target=3.28, alternative="less")
    assert result.p == pytest.approx(p, rel=2e-6)
    assert result.estimate == pytest.approx(np.mean(values) - 3.28)


def test_t_tests_and_their_intervals_agree_with_scipy() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(3.3, 0.02, size=6), rng.normal(3.31, 0.01, size=6)
    ours, scipy = paired_t(x, y), stats.ttest_rel(x, y)
    interval, theirs = ours.interval(level=0.9), scipy.confidence_interval(0.9)
    assert ours.p == pytest.approx(scipy.pvalue, rel=1e-12)
    assert ours.statistic == pytest.approx(scipy.statistic, rel=1e-12)
    assert ours.degrees_of_freedom == pytest.approx(scipy.df, rel=1e-12)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((theirs.low, theirs.high), rel=1e-10)


def test_welchs_statistic_is_scipys_with_the_degrees_of_freedom_of_the_smaller_side() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(3.3, 0.02, size=6), rng.normal(3.31, 0.01, size=4)
    ours, scipy = welch_t(x, y), stats.ttest_ind(x, y, equal_var=False)
    assert ours.statistic == pytest.approx(scipy.statistic, rel=1e-12)
    assert ours.degrees_of_freedom == 3 < scipy.df
    assert ours.p == pytest.approx(2 * stats.t.sf(abs(scipy.statistic), 3), rel=1e-12)
    assert ours.p > scipy.pvalue
    interval = ours.interval(level=0.9)
    assert interval is not None
    half = stats.t.isf(0.05, 3) * ours.standard_error
    assert (interval.low, interval.high) == pytest.approx(
        (ours.estimate - half, ours.estimate + half)
    )


@law
@given(pairs)
def test_swapping_variant_and_baseline_flips_the_sign_only(p: list[tuple[float, float]]) -> None:
    x, y = np.transpose(p)
    for test in (paired_t, welch_t):
        one, other = test(x, y), test(y, x)
        assert one.estimate == pytest.approx(-other.estimate, abs=1e-12)
        assert one.p == pytest.approx(other.p, rel=1e-9)


@law
@given(pairs, st.randoms(use_true_random=False))
def test_permuting_the_seeds_changes_nothing(p: list[tuple[float, float]], random) -> None:
    shuffled = list(p)
    random.shuffle(shuffled)
    one, other = paired_t(*np.transpose(p)), paired_t(*np.transpose(shuffled))
    assert one.estimate == pytest.approx(other.estimate, abs=1e-12)
    assert one.p == pytest.approx(other.p, rel=1e-6)


@law
@given(pairs, shifts)
def test_a_constant_on_both_sides_of_the_pairs_changes_nothing(
    p: list[tuple[float, float]], shift: float
) -> None:
    x, y = np.round(np.transpose(p), 3)
    shift = round(shift, 3)
    one, other = paired_t(x, y), paired_t(x + shift, y + shift)
    assert one.estimate == pytest.approx(other.estimate, abs=1e-10)
    assert one.p == pytest.approx(other.p, rel=1e-4, abs=1e-9)


@law
@given(pairs)
def test_the_interval_contains_the_estimate(p: list[tuple[float, float]]) -> None:
    for test in (paired_t, welch_t):
        result = test(*np.transpose(p))
        interval = result.interval()
        assert interval is None or result.estimate in interval


def test_a_seed_that_reaches_nothing_is_no_evidence() -> None:
    for test in (paired_t, welch_t):
        result = test([3.2] * 8, [3.4] * 8)
        assert (result.p, result.note, result.interval()) == (1.0, NO_NOISE, None)


def test_a_constant_difference_gets_the_p_of_the_sign_flips_never_zero() -> None:
    baseline = np.array([3.41, 3.42, 3.39, 3.44, 3.40])
    result = paired_t(baseline - 0.1, baseline)
    assert (result.p, result.note) == (2.0**-4, CONSTANT_DIFFERENCE)
    assert result.interval() is None


def test_equal_runs_on_both_sides_differ_with_p_one() -> None:
    baseline = [3.41, 3.42, 3.39]
    assert paired_t(baseline, baseline).p == 1.0


def test_a_target_against_a_repeated_value_is_not_reached() -> None:
    assert one_sample_t([3.2, 3.2, 3.2], target=3.28).p == 1.0


@pytest.mark.parametrize("test", [paired_t, welch_t])
def test_two_seeds_are_refused(test) -> None:
    with pytest.raises(ValueError, match="at least 3"):
        test([1.0, 2.0], [1.0, 2.0])


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        paired_t([1.0, 2.0, float("nan")], [1.0, 2.0, 3.0])


def test_pairs_need_the_same_number_on_both_sides() -> None:
    with pytest.raises(ValueError, match="same seeds"):
        paired_t([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0])


def test_a_table_instead_of_a_vector_is_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        welch_t([[1.0, 2.0], [3.0, 4.0]], [1.0, 2.0, 3.0])
