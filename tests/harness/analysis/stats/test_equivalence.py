"""TOST against its reference numbers, and the margin."""

import numpy as np
import pytest
from scipy import stats

from harness.analysis.stats.data_efficiency import PowerLaw
from harness.analysis.stats.equivalence import margin_loss, tost
from harness.analysis.stats.mean_tests import MeanTest, paired_t, welch_t

X, Y = [4, 7, 8, 6, 3, 2], [6, 8, 7, 10, 11, 9]


def pooled_t(x: list[int], y: list[int]) -> MeanTest:
    """The t test of equal variances, which the reference number assumes."""
    result = stats.ttest_ind(x, y)
    pooled = (np.var(x, ddof=1) + np.var(y, ddof=1)) / 2.0
    return MeanTest(
        test="pooled t",
        n=len(x),
        estimate=float(np.mean(x) - np.mean(y)),
        p=float(result.pvalue),
        standard_error=float(np.sqrt(2.0 * pooled / len(x))),
        degrees_of_freedom=2.0 * len(x) - 2.0,
    )


def test_tost_agrees_with_the_reference_numbers() -> None:
    assert tost(pooled_t(X, Y), margin=1).p == pytest.approx(0.965097, abs=5e-7)
    assert tost(paired_t(X, Y), margin=0.5).p == pytest.approx(0.954854, abs=5e-7)


@pytest.mark.parametrize("test", [paired_t, welch_t, pooled_t])
def test_tost_is_symmetric_and_shrinks_with_the_margin(test) -> None:
    assert tost(test(X, Y), margin=2).p == pytest.approx(tost(test(Y, X), margin=2).p)
    p = [tost(test(X, Y), margin=margin).p for margin in (0.5, 1, 3, 9)]
    assert p == sorted(p, reverse=True)


def test_tost_rejects_exactly_when_the_ninety_percent_interval_lies_in_the_margin() -> None:
    rng = np.random.default_rng(7)
    for _ in range(50):
        test = paired_t(*rng.normal(size=(2, 6)))
        interval = test.interval(level=0.9)
        assert interval is not None
        inside = interval.low > -1.0 and interval.high < 1.0
        assert (tost(test, margin=1.0).p < 0.05) == inside


def test_runs_without_noise_are_never_proved_equivalent() -> None:
    assert tost(welch_t([3.3, 3.3, 3.3], [3.3, 3.3, 3.3]), margin=1.0).p == 1.0
    assert tost(paired_t([3.3, 3.2, 3.1], [3.3, 3.2, 3.1]), margin=1.0).p == 1.0


@pytest.mark.parametrize("margin", [0.0, -1.0, float("nan"), float("inf")])
def test_a_margin_must_be_positive(margin: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        tost(paired_t(X, Y), margin=margin)


LAW = PowerLaw(a=40.0, b=0.5, c=2.0, residual=0.0)


def test_a_speedup_is_worth_the_loss_of_a_longer_schedule() -> None:
    # 40 / sqrt(10,000) - 40 / sqrt(10,500)
    assert margin_loss(LAW, data=10_000, speedup_percent=5.0) == pytest.approx(
        0.4 - 40.0 / np.sqrt(10_500)
    )


def test_the_floor_and_the_unit_of_the_data_do_not_move_the_margin() -> None:
    margin = margin_loss(LAW, data=10_000, speedup_percent=5.0)
    higher = PowerLaw(a=40.0, b=0.5, c=9.0, residual=0.0)
    assert margin_loss(higher, data=10_000, speedup_percent=5.0) == margin
    in_thousands = PowerLaw(a=40.0 / np.sqrt(1000.0), b=0.5, c=2.0, residual=0.0)
    assert margin_loss(in_thousands, data=10, speedup_percent=5.0) == pytest.approx(margin)


def test_a_larger_speedup_is_worth_more_but_ever_less() -> None:
    ten, twenty = (margin_loss(LAW, data=10_000, speedup_percent=s) for s in (10.0, 20.0))
    assert ten < twenty < 2.0 * ten


@pytest.mark.parametrize("percent", [0.0, -1.0, float("nan")])
def test_a_speedup_that_is_none_has_no_margin(percent: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        margin_loss(LAW, data=10_000, speedup_percent=percent)


def test_a_flat_law_gives_no_margin() -> None:
    flat = PowerLaw(a=0.0, b=0.5, c=2.0, residual=0.0)
    with pytest.raises(ValueError, match="no margin"):
        margin_loss(flat, data=10_000, speedup_percent=5.0)
