"""Block-Dunnett against SciPy and against its definition."""

import numpy as np
import pytest
from scipy import optimize, stats

from harness.analysis.stats.dunnett import block_dunnett, dunnett_p
from harness.analysis.stats.mean_tests import paired_t


def test_the_p_agrees_with_scipy_where_there_are_no_blocks() -> None:
    groups = np.random.default_rng(21).normal(size=(5, 6))
    scipy = stats.dunnett(*groups[1:], control=groups[0], rng=np.random.default_rng(0))
    for statistic, p in zip(scipy.statistic, scipy.pvalue, strict=True):
        ours = dunnett_p(float(statistic), comparisons=4, degrees_of_freedom=25)
        assert ours == pytest.approx(p, abs=2e-4)


@pytest.mark.parametrize("t", [0.0, 0.5, 2.0, 5.0])
def test_one_comparison_is_student_t(t: float) -> None:
    ours = dunnett_p(t, comparisons=1, degrees_of_freedom=7)
    assert ours == pytest.approx(2 * stats.t.sf(t, 7), abs=1e-10)


def test_one_variant_gives_the_paired_t_test() -> None:
    x, y = np.random.default_rng(22).normal(size=(2, 6))
    result = block_dunnett([x], y)
    assert result is not None
    assert result.p[0] == pytest.approx(paired_t(x, y).p, abs=1e-9)
    assert result.statistics[0] == pytest.approx(paired_t(x, y).statistic)


def test_the_mean_square_error_is_that_of_the_two_way_table() -> None:
    rng = np.random.default_rng(23)
    rows = rng.normal(size=(4, 5)) + 10.0 * rng.normal(size=5)
    result = block_dunnett(rows[1:], rows[0])
    assert result is not None
    r = rows - rows.mean(1)[:, None] - rows.mean(0) + rows.mean()
    assert result.degrees_of_freedom == 12
    assert result.mean_square_error == pytest.approx((r**2).sum() / 12)


def test_what_a_seed_adds_to_every_variant_changes_nothing() -> None:
    rows = np.random.default_rng(24).normal(size=(4, 5))
    one = block_dunnett(rows[1:], rows[0])
    shifted = rows + np.arange(5.0)
    other = block_dunnett(shifted[1:], shifted[0])
    assert one is not None
    assert other is not None
    assert other.p == pytest.approx(one.p, abs=1e-9)


def test_without_noise_there_is_no_result() -> None:
    assert block_dunnett([[1.0, 2.0, 3.0]], [2.0, 3.0, 4.0]) is None


def test_the_family_wise_error_is_alpha() -> None:
    rng = np.random.default_rng(25)
    critical = optimize.brentq(
        lambda t: dunnett_p(t, comparisons=4, degrees_of_freedom=12) - 0.05, 1.0, 6.0
    )
    x = rng.normal(size=(20_000, 5, 4))
    d = (x[:, 1:] - x[:, :1]).mean(axis=2)
    r = x - x.mean(2, keepdims=True) - x.mean(1, keepdims=True) + x.mean((1, 2), keepdims=True)
    t = d / np.sqrt(2 * (r**2).sum((1, 2)) / 12 / 4)[:, None]
    false = int((np.abs(t).max(axis=1) > critical).sum())
    low, high = stats.binom.ppf([1e-4, 1 - 1e-4], 20_000, 0.05)
    assert low <= false <= high


@pytest.mark.parametrize(
    ("variants", "baseline"),
    [([1.0, 2.0], [1.0]), ([[1.0, 2.0]], [1.0, 2.0]), ([[1.0]], [1.0, 2.0])],
)
def test_tables_that_do_not_fit_are_refused(variants, baseline) -> None:
    with pytest.raises(ValueError, match=r"give \(K, n\)|needed"):
        block_dunnett(variants, baseline)
