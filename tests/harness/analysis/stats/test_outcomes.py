"""Divergence is an outcome: rates, and ranks with diverged last."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.analysis.result_rows import ResultRow
from harness.analysis.stats.outcomes import RunEnd, outcome_ranks, rank_test, risk_p


def ended(value: float | None, outcome: str = "completed", step: int | None = None) -> RunEnd:
    return ResultRow(variant="x", seed=0, value=value, outcome=outcome, diverged_at_step=step)


CRASHED = ended(None, "failed")


def done(*values: float) -> list[RunEnd]:
    return [ended(value) for value in values]


def diverged(step: int | None = None) -> RunEnd:
    return ended(None, "diverged", step)


ends = st.one_of(
    st.integers(0, 5).map(lambda v: ended(float(v))),
    st.integers(1, 4).map(diverged),
)


def test_the_risks_of_very_many_runs_are_compared_by_fishers_test() -> None:
    lost, fine = np.arange(5_000) < 40, np.arange(5_000) < 80
    assert risk_p(fine, lost) == stats.fisher_exact([[80, 40], [4_920, 4_960]]).pvalue


def test_the_risks_are_compared_by_boschloos_test() -> None:
    table = [[3, 0], [1, 4]]
    expected = stats.boschloo_exact(table).pvalue
    assert risk_p([1, 1, 1, 0], [0, 0, 0, 0]) == pytest.approx(expected)


def test_five_of_five_against_none_is_shown_and_four_survivors_are_not() -> None:
    assert risk_p([True] * 5, [False] * 5) == pytest.approx(2 * 0.5**10)
    assert risk_p([True, False, False, False, False], [False] * 5) > 0.5


@pytest.mark.parametrize("lost", [False, True])
def test_equal_fates_tell_nothing(lost: bool) -> None:
    assert risk_p([lost] * 4, [lost] * 7) == 1.0


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.booleans(), min_size=3, max_size=8), st.lists(st.booleans(), min_size=3, max_size=8)
)
def test_the_sides_may_be_swapped(x: list[bool], y: list[bool]) -> None:
    assert risk_p(x, y) == pytest.approx(risk_p(y, x), abs=1e-6)


def test_diverged_runs_rank_last_and_the_earliest_divergence_very_last() -> None:
    x, y = outcome_ranks([diverged(10), *done(3.0)], [diverged(500), *done(9.0)])
    assert x.tolist() == [4.0, 1.0]
    assert y.tolist() == [3.0, 2.0]


def test_diverged_runs_tie_when_one_of_them_has_no_step() -> None:
    x, y = outcome_ranks([diverged(10), *done(3.0)], [diverged(), *done(9.0)])
    assert x.tolist() == [3.5, 1.0]
    assert y.tolist() == [3.5, 2.0]


def test_a_run_without_a_result_can_rank_at_either_end() -> None:
    last, _ = outcome_ranks([CRASHED], [diverged(5), *done(1.0)])
    first, _ = outcome_ranks([CRASHED], [diverged(5), *done(1.0)], unknown_variant="best")
    assert (last.tolist(), first.tolist()) == ([3.0], [1.0])


def test_eight_divergences_against_eight_good_runs_are_worse() -> None:
    result = rank_test([diverged(9)] * 8, done(*np.linspace(3.2, 3.3, 8)), paired=True)
    assert (result.direction, result.p, result.a12) == (1, 2**-7, 0.0)


def test_the_survivors_alone_do_not_win() -> None:
    """Three excellent runs and two divergences: the mean of the survivors would say better."""
    variant = [*done(2.0, 2.1, 2.0), diverged(5), diverged(7)]
    baseline = done(3.0, 3.1, 3.0, 3.1, 3.0)
    for paired in (True, False):
        assert rank_test(variant, baseline, paired=paired).p > 0.5


def test_runs_without_a_result_cannot_decide_a_comparison() -> None:
    variant, baseline = [CRASHED] * 8, done(*np.linspace(3.2, 3.3, 8))
    result = rank_test(variant, baseline, paired=True)
    assert (result.direction, result.p) == (0, 1.0)
    assert result.note is not None


def test_the_larger_p_of_both_extremes_of_a_crash_counts() -> None:
    variant, baseline = [CRASHED, *done(2.0, 2.1, 2.2, 2.3)], done(3.0, 3.1, 3.2, 3.3, 3.4)
    as_best = rank_test([*done(0.0), *variant[1:]], baseline, paired=True).p
    as_worst = rank_test([*done(9.0), *variant[1:]], baseline, paired=True).p
    assert as_best < as_worst
    assert rank_test(variant, baseline, paired=True).p == as_worst


def test_one_crash_does_not_hide_a_clear_difference() -> None:
    variant = [CRASHED, *done(*np.linspace(2.0, 2.1, 9))]
    result = rank_test(variant, done(*np.linspace(3.2, 3.3, 10)), paired=False)
    assert result.direction == -1
    assert result.p < 0.01


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(ends, ends), min_size=3, max_size=6), st.booleans())
def test_swapping_the_sides_flips_the_direction_only(pairs, paired: bool) -> None:
    x, y = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    one, other = rank_test(x, y, paired=paired), rank_test(y, x, paired=paired)
    assert one.direction == -other.direction
    assert one.p == pytest.approx(other.p)
    assert one.a12 == pytest.approx(1.0 - other.a12)


def test_ranks_without_ties_give_the_exact_mann_whitney_p() -> None:
    x, y = done(1.0, 2.0, 4.0, 5.5), done(3.0, 6.0, 7.0, 8.0, 9.0)
    exact = stats.mannwhitneyu([1, 2, 4, 5.5], [3, 6, 7, 8, 9], method="exact").pvalue
    assert rank_test(x, y, paired=False).p == pytest.approx(exact)
