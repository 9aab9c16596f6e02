"""Intervals are t intervals."""

import pytest
from scipy import stats

from harness.analysis.stats.intervals import mean_interval, simultaneous_level, t_interval


def test_the_interval_of_a_mean_agrees_with_scipy() -> None:
    values = [3.1, 3.3, 3.2, 3.25]
    interval = mean_interval(values, level=0.9)
    theirs = stats.ttest_1samp(values, 0.0).confidence_interval(0.9)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((theirs.low, theirs.high))
    assert interval.level == 0.9


def test_a_repeated_value_has_no_interval() -> None:
    assert mean_interval([3.1, 3.1, 3.1]) is None


def test_simultaneous_intervals_split_the_error_evenly() -> None:
    assert simultaneous_level(0.95, comparisons=5) == pytest.approx(0.99)
    assert simultaneous_level(0.95, comparisons=1) == pytest.approx(0.95)
    with pytest.raises(ValueError, match="at least 1"):
        simultaneous_level(0.95, comparisons=0)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_level_is_a_probability(level: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        t_interval(0.0, standard_error=1.0, degrees_of_freedom=4, level=level)
