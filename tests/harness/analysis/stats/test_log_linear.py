"""Lines on logarithmic axes: known slopes, intervals, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.analysis.stats.log_linear import fit_log_linear, usable_axes

SIZES = [1e6, 2e6, 4e6, 8e6]


@settings(max_examples=40, deadline=None)
@given(st.floats(-1.0, 1.0), st.floats(0.2, 5.0))
def test_a_power_law_comes_back(slope: float, factor: float) -> None:
    values = [factor * (size / 1e6) ** slope for size in SIZES]
    fit = fit_log_linear({"size": SIZES}, values)
    assert fit.slopes["size"] == pytest.approx(slope, abs=1e-9)
    value, interval = fit.predict({"size": 16e6})
    assert value == pytest.approx(factor * 16.0**slope, rel=1e-6)
    assert interval is None or interval.high - interval.low < 1e-6


def test_one_axis_agrees_with_scipy() -> None:
    values = [1.5, 1.42, 1.39, 1.30]
    fit = fit_log_linear({"size": SIZES}, values)
    theirs = stats.linregress(np.log2(SIZES), np.log2(values))
    interval = fit.intervals["size"]
    assert interval is not None
    assert fit.slopes["size"] == pytest.approx(theirs.slope)
    half = stats.t.isf(0.025, 2) * theirs.stderr
    assert interval.high - fit.slopes["size"] == pytest.approx(half)


def test_two_axes_are_told_apart_on_a_grid() -> None:
    sizes, tokens = np.repeat(SIZES[:3], 3), np.tile([1e8, 2e8, 4e8], 3)
    values = 2.0 * (sizes / 1e6) ** -0.1 * (tokens / 1e8) ** 0.2
    assert usable_axes({"size": list(sizes), "tokens": list(tokens)}) == ("size", "tokens")
    fit = fit_log_linear({"size": list(sizes), "tokens": list(tokens)}, values)
    assert fit.slopes == pytest.approx({"size": -0.1, "tokens": 0.2})


def test_tokens_that_grow_with_the_size_are_no_axis_of_their_own() -> None:
    tokens = [20 * size for size in SIZES]
    assert usable_axes({"size": SIZES, "tokens": tokens}) == ("size",)
    with pytest.raises(ValueError, match="apart"):
        fit_log_linear({"size": SIZES, "tokens": tokens}, [1.0, 1.1, 1.2, 1.4])


@pytest.mark.parametrize("at", [4e6, 64e6])
def test_the_prediction_interval_covers_a_new_point(at: float) -> None:
    rng = np.random.default_rng(0)
    studies, inside, slopes = 800, 0, 0
    for _ in range(studies):
        logs = 1.0 - 0.1 * np.log2(np.array(SIZES) / 1e6) + 0.05 * rng.normal(size=4)
        fit = fit_log_linear({"size": SIZES}, 2.0**logs)
        _, interval = fit.predict({"size": at})
        new = 2.0 ** (1.0 - 0.1 * np.log2(at / 1e6) + 0.05 * rng.normal())
        assert interval is not None
        assert fit.intervals["size"] is not None
        inside += new in interval
        slopes += -0.1 in fit.intervals["size"]
    low, high = stats.binom.ppf([0.001, 0.999], studies, 0.95) / studies
    assert low <= inside / studies <= high
    assert low <= slopes / studies <= high


@pytest.mark.parametrize(
    ("sizes", "values", "message"),
    [
        ([1.0, 2.0, 2.0], [1.0, 1.0, 1.0], "2 distinct value"),
        ([1.0, 2.0, 3.0], [1.0, 0.0, 1.0], "positive"),
        ([1.0, 2.0], [1.0, 1.0, 1.0], "one length"),
    ],
)
def test_what_gives_no_slope_is_refused(sizes, values, message) -> None:
    with pytest.raises(ValueError, match=message):
        fit_log_linear({"size": sizes}, values)
    with pytest.raises(ValueError, match="axis"):
        fit_log_linear({}, values)
