"""Cost to a target, with runs that never arrive."""

import math

import numpy as np
import pytest
from scipy import stats

from harness.analysis.stats.speedup import cost_to_target, target_speedup

BUDGETS = {"variant_budget": 1000.0, "baseline_budget": 1000.0}


def test_a_crossing_is_read_between_two_evaluations() -> None:
    assert cost_to_target([0, 100, 200], [4.0, 3.0, 2.0], target=2.5) == pytest.approx(150.0)
    assert cost_to_target([0, 100, 200], [4.0, 3.0, 2.0], target=4.0) == 0.0


def test_a_curve_that_never_arrives_has_no_cost() -> None:
    assert cost_to_target([0, 100], [4.0, 3.0], target=1.0) is None
    assert cost_to_target([0, 100], [4.0, math.nan], target=1.0) is None


def test_the_first_crossing_counts() -> None:
    assert cost_to_target([0, 1, 2, 3], [4.0, 2.0, 4.0, 1.0], target=2.0) == 1.0


def test_the_interval_is_a_t_interval_of_the_log_ratio() -> None:
    variant, baseline = [400.0, 420.0, 450.0, 430.0], [800.0, 900.0, 850.0, 990.0]
    result = target_speedup(variant, baseline, paired=True, **BUDGETS)
    logs = np.log(np.array(baseline) / np.array(variant))
    theirs = stats.ttest_1samp(logs, 0.0).confidence_interval(0.95)
    assert result.kind == "about"
    assert result.ratio == pytest.approx(np.exp(logs.mean()))
    assert (result.low, result.high) == pytest.approx((np.exp(theirs.low), np.exp(theirs.high)))
    assert "times fewer steps" in result.statement


def test_each_run_may_have_its_own_budget() -> None:
    costs = [4.0, 4.2, None, 4.3]
    result = target_speedup(
        costs,
        [9.0, 9.5, 9.9, 9.1],
        paired=True,
        variant_budget=[10.0, 10.0, 8.0, 10.0],
        baseline_budget=10.0,
    )
    logs = np.log(np.array([9.0, 9.5, 9.9, 9.1]) / [4.0, 4.2, 8.0, 4.3])
    assert result.kind == "at most"
    assert result.ratio == pytest.approx(np.exp(logs.mean()))


def test_a_baseline_that_never_arrives_gives_at_least() -> None:
    result = target_speedup([400.0, 420.0, 450.0], [800.0, None, None], paired=True, **BUDGETS)
    assert (result.kind, result.baseline_censored, result.high) == ("at least", 2, None)
    assert result.low is not None
    assert result.ratio is not None
    assert result.low < result.ratio
    assert result.statement.startswith("at least")


def test_a_one_sided_bound_uses_the_whole_error_on_its_side() -> None:
    costs = [800.0, None, 900.0, 950.0]
    result = target_speedup([400.0, 420.0, 450.0, 430.0], costs, paired=True, **BUDGETS)
    logs = np.log(np.array([800.0, 1000.0, 900.0, 950.0]) / [400.0, 420.0, 450.0, 430.0])
    one_sided = logs.mean() - stats.t.isf(0.05, 3) * logs.std(ddof=1) / 2.0
    assert result.low == pytest.approx(np.exp(one_sided))


def test_a_variant_that_never_arrives_gives_at_most() -> None:
    result = target_speedup([900.0, None, 950.0], [800.0, 820.0, 700.0], paired=False, **BUDGETS)
    assert (result.kind, result.low) == ("at most", None)
    assert result.high is not None
    assert result.statement.startswith("at most")


def test_runs_of_both_sides_that_never_arrive_decide_nothing() -> None:
    result = target_speedup([900.0, None, 950.0], [None, 820.0, 700.0], paired=True, **BUDGETS)
    assert (result.kind, result.ratio, result.low, result.high) == (
        "undetermined",
        None,
        None,
        None,
    )
    assert "undetermined" in result.statement


def test_a_lower_bound_from_censored_runs_is_seldom_too_high() -> None:
    rng = np.random.default_rng(41)
    too_high = 0
    for _ in range(500):
        costs = rng.lognormal(math.log(900.0), 0.2, size=5)
        baseline = [float(c) if c < 1000.0 else None for c in costs]
        variant = [float(c) for c in rng.lognormal(math.log(450.0), 0.05, size=5)]
        result = target_speedup(variant, baseline, paired=True, **BUDGETS)
        too_high += result.low is not None and result.low > 2.0
    assert too_high <= stats.binom.ppf(1 - 1e-4, 500, 0.05)


def test_swapping_the_sides_inverts_the_ratio() -> None:
    variant, baseline = [400.0, 420.0, 450.0], [800.0, 900.0, 850.0]
    one = target_speedup(variant, baseline, paired=True, **BUDGETS)
    other = target_speedup(baseline, variant, paired=True, **BUDGETS)
    assert one.ratio is not None
    assert other.ratio == pytest.approx(1 / one.ratio)
    assert other.low == pytest.approx(1 / one.high)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cost_to_target([1, 2], [1.0], target=1.0), "one length"),
        (lambda: cost_to_target([2, 1], [1.0, 2.0], target=1.0), "ascend"),
        (lambda: target_speedup([1.0] * 2, [1.0] * 2, paired=True, **BUDGETS), "at least 3"),
        (lambda: target_speedup([-1.0] * 3, [1.0] * 3, paired=True, **BUDGETS), "positive"),
        (lambda: target_speedup([2e3] * 3, [1.0] * 3, paired=True, **BUDGETS), "above the budget"),
        (
            lambda: target_speedup(
                [1.0] * 3, [1.0] * 3, paired=True, variant_budget=[1.0] * 2, baseline_budget=1.0
            ),
            "2 budgets for 3 runs",
        ),
    ],
)
def test_impossible_costs_are_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
