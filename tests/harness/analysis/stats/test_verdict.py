"""Verdicts that are read from one interval, and p values that never disagree with it."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis.stats.mean_tests import MeanTest, paired_t
from harness.analysis.stats.verdict import adjust, decide, decide_by_p


def a_test(estimate: float, *, standard_error: float = 1.0, freedom: float = 7.0) -> MeanTest:
    from scipy import stats

    t = estimate / standard_error
    return MeanTest(
        test="made up",
        n=8,
        estimate=estimate,
        p=2.0 * float(stats.t.sf(abs(t), freedom)),
        standard_error=standard_error,
        degrees_of_freedom=freedom,
        statistic=t,
    )


@pytest.mark.parametrize(
    ("estimate", "margin", "expected"),
    [
        # The interval at share 0.05 with 7 degrees of freedom is estimate +- 2.365.
        (-9.0, 5.0, "better by the margin"),
        (-3.0, 5.0, "better"),
        (-3.0, None, "better"),
        (-9.0, None, "better"),
        (-1.0, 5.0, "equivalent"),
        (-1.0, 2.0, "inconclusive"),
        (-1.0, None, "inconclusive"),
        (0.0, None, "inconclusive"),
        (2.0, 9.0, "equivalent"),
        (3.0, 9.0, "worse"),
        (9.0, 5.0, "worse by the margin"),
    ],
)
def test_the_verdict_is_read_from_the_interval(estimate, margin, expected) -> None:
    found = decide(a_test(estimate), share=0.05, alpha=0.05, margin=margin)
    assert found.verdict == expected


shares = st.sampled_from([0.05, 0.05 / 3, 0.05 / 18, 0.0007])
tests = st.builds(
    a_test,
    st.floats(-20, 20),
    standard_error=st.floats(0.1, 5),
    freedom=st.sampled_from([2.0, 4.0, 7.3, 19.0, math.inf]),
)


@settings(max_examples=300, deadline=None)
@given(tests, shares, st.none() | st.floats(0.1, 10))
def test_each_adjusted_p_is_below_alpha_exactly_where_the_interval_says_so(
    test: MeanTest, share: float, margin: float | None
) -> None:
    found = decide(test, share=share, alpha=0.05, margin=margin)
    low, high = found.interval.low, found.interval.high
    assert (found.adjusted_p < 0.05) == (high < 0.0 or low > 0.0)
    assert found.verdict.startswith("better") == (high < 0.0)
    assert found.verdict.startswith("worse") == (low > 0.0)
    if margin is None:
        assert (found.equivalence_p, found.margin_p) == (None, None)
        return
    assert (found.equivalence_p < 0.05) == (-margin < low and high < margin)
    assert (found.margin_p < 0.05) == (high < -margin or low > margin)
    assert found.verdict.endswith("by the margin") == (found.margin_p < 0.05)


@settings(max_examples=100, deadline=None)
@given(tests, shares, st.none() | st.floats(0.1, 10))
def test_swapping_the_sides_swaps_better_and_worse(test, share, margin) -> None:
    one = decide(test, share=share, alpha=0.05, margin=margin)
    mirrored = a_test(
        -test.estimate, standard_error=test.standard_error, freedom=test.degrees_of_freedom
    )
    other = decide(mirrored, share=share, alpha=0.05, margin=margin)
    swap = {"better": "worse", "worse": "better"}
    first, *rest = one.verdict.split(" ")
    assert other.verdict == " ".join([swap.get(first, first), *rest])
    assert other.adjusted_p == pytest.approx(one.adjusted_p)


@settings(max_examples=100, deadline=None)
@given(tests, st.floats(0.1, 10))
def test_a_smaller_share_never_says_more(test: MeanTest, margin: float) -> None:
    wide = decide(test, share=0.05 / 18, alpha=0.05, margin=margin)
    narrow = decide(test, share=0.05, alpha=0.05, margin=margin)
    assert wide.interval.low <= narrow.interval.low
    assert narrow.interval.high <= wide.interval.high
    assert wide.verdict == narrow.verdict or narrow.verdict != "inconclusive"


def test_without_noise_there_is_no_interval_and_p_decides() -> None:
    silent = decide(paired_t([3.3] * 8, [3.0] * 8), share=0.05, alpha=0.05, margin=1.0)
    assert (silent.verdict, silent.interval, silent.equivalence_p) == ("inconclusive", None, None)
    base = [3.0, 3.1, 3.2, 3.3, 3.0, 3.1, 3.2, 3.4]
    constant = decide(paired_t([b - 0.5 for b in base], base), share=0.05, alpha=0.05)
    assert (constant.verdict, constant.interval) == ("better", None)


def test_a_look_that_may_spend_nothing_decides_nothing() -> None:
    found = decide(a_test(-50.0), share=0.0, alpha=0.05, margin=1.0)
    assert (found.verdict, found.interval, found.adjusted_p) == ("inconclusive", None, 1.0)


def test_ranks_are_judged_by_their_p() -> None:
    assert decide_by_p(0.004, direction=1.0, share=0.01, alpha=0.05).verdict == "worse"
    assert decide_by_p(0.02, direction=-1.0, share=0.01, alpha=0.05).verdict == "inconclusive"
    assert decide_by_p(0.004, direction=0.0, share=0.01, alpha=0.05).verdict == "inconclusive"


def test_an_adjusted_p_is_at_most_one() -> None:
    assert adjust(0.4, share=0.05 / 18, alpha=0.05) == 1.0
    assert adjust(0.001, share=0.05 / 18, alpha=0.05) == pytest.approx(0.018)


@pytest.mark.parametrize(("share", "alpha"), [(0.05, 5.0), (0.1, 0.05), (-0.1, 0.05)])
def test_shares_that_make_no_sense_are_refused(share: float, alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        decide(a_test(1.0), share=share, alpha=alpha)
