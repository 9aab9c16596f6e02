"""Looks: the normal theory against its reference numbers, the t process by simulation."""

import numpy as np
import pytest
from scipy import stats

from harness.analysis.stats.sequential import (
    calibrated_bounds,
    classical_bounds,
    crossing_probabilities,
    look_p_values,
    normal_bounds,
    obrien_fleming_spending,
)

LOOKS = (4, 7, 10)


def inside_binomial_bounds(count: int, *, of: int, rate: float) -> bool:
    low, high = stats.binom.ppf([1e-4, 1 - 1e-4], of, rate)
    return bool(low <= count <= high)


@pytest.mark.parametrize(
    ("looks", "kind", "last"),
    [
        (3, "obrien_fleming", 2.004),
        (5, "obrien_fleming", 2.040),
        (3, "pocock", 2.289),
        (5, "pocock", 2.413),
        (1, "pocock", 1.960),
    ],
)
def test_classical_bounds_agree_with_the_tables(looks, kind, last) -> None:
    bounds = classical_bounds(looks, kind=kind)
    assert bounds[-1] == pytest.approx(last, abs=6e-4)
    fractions = np.arange(1, looks + 1) / looks
    assert crossing_probabilities(bounds, fractions=fractions).sum() == pytest.approx(0.05)


def test_spending_for_normal_statistics_agrees_with_the_reference_numbers() -> None:
    nominal = 2 * stats.norm.sf(normal_bounds([0.4, 0.7, 1.0]))
    assert nominal == pytest.approx([0.00079, 0.0144, 0.0455], rel=0.01)


def test_everything_is_spent_at_the_end() -> None:
    assert obrien_fleming_spending(1.0, alpha=0.03) == pytest.approx(0.03)
    spent = [obrien_fleming_spending(t, alpha=0.05) for t in (0.2, 0.5, 0.9)]
    assert spent == sorted(spent)


def test_drawn_looks_follow_the_t_distribution() -> None:
    p = look_p_values(LOOKS, np.random.default_rng(31), studies=20_000)
    for look in range(3):
        assert stats.kstest(p[:, look], "uniform").pvalue > 1e-4


def test_drawn_looks_agree_with_t_tests_of_drawn_seeds() -> None:
    """The joint law: the correlation of two looks, against studies drawn seed by seed."""
    rng = np.random.default_rng(32)
    x = rng.normal(size=(20_000, 7))
    plain = [
        2 * stats.t.sf(abs(stats.ttest_1samp(x[:, :n], 0, axis=1).statistic), n - 1) for n in (4, 7)
    ]
    ours = look_p_values((4, 7), rng, studies=20_000)
    both = np.mean((plain[0] < 0.1) & (plain[1] < 0.1))
    assert np.mean((ours < 0.1).all(axis=1)) == pytest.approx(both, abs=0.006)


@pytest.mark.parametrize("quiet", [1.0, 0.1])
def test_the_bounds_are_cautious_for_unpaired_runs(quiet: float) -> None:
    rng, studies = np.random.default_rng(33), 60_000
    x, y = rng.normal(size=(studies, 10)), quiet * rng.normal(size=(studies, 10))
    bounds = calibrated_bounds(LOOKS, np.random.default_rng(36), draws=200_000)
    crossed = np.zeros(studies, dtype=bool)
    for look, nominal in zip(LOOKS, bounds.nominal_p, strict=True):
        t = stats.ttest_ind(x[:, :look], y[:, :look], axis=1, equal_var=False).statistic
        crossed |= 2 * stats.t.sf(np.abs(t), look - 1) < nominal
    assert crossed.mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / studies)


def test_looking_after_every_seed_finds_an_effect_in_one_study_of_six() -> None:
    p = look_p_values(range(3, 11), np.random.default_rng(34), studies=20_000)
    assert np.mean((p < 0.05).any(axis=1)) == pytest.approx(0.17, abs=0.01)


def test_normal_bounds_let_too_much_through_for_t_statistics() -> None:
    nominal = 2 * stats.norm.sf(normal_bounds([0.4, 0.7, 1.0]))
    p = look_p_values(LOOKS, np.random.default_rng(35), studies=400_000, at_most=0.1)
    assert np.mean((p <= nominal).any(axis=1)) == pytest.approx(0.053, abs=0.0012)


def test_calibrated_bounds_keep_the_error_of_the_t_process() -> None:
    bounds = calibrated_bounds(LOOKS, np.random.default_rng(36), draws=200_000)
    p = look_p_values(LOOKS, np.random.default_rng(37), studies=200_000, at_most=0.1)
    false = int((p <= bounds.nominal_p).any(axis=1).sum())
    assert bounds.spent[-1] <= 0.05
    assert inside_binomial_bounds(false, of=200_000, rate=bounds.spent[-1])
    assert list(bounds.nominal_p) == sorted(bounds.nominal_p)


def test_one_look_is_the_plain_test() -> None:
    bounds = calibrated_bounds([8], np.random.default_rng(38), draws=200_000)
    assert bounds.nominal_p[0] == pytest.approx(0.05, abs=0.002)


def test_a_look_that_is_too_early_decides_nothing() -> None:
    bounds = calibrated_bounds([3, 30], np.random.default_rng(39), alpha=0.001, draws=50_000)
    assert bounds.nominal_p[0] == 0.0
    assert 0.0 < bounds.spent[-1] <= 0.001


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="fraction"):
        obrien_fleming_spending(0.0, alpha=0.05)
    with pytest.raises(ValueError, match="looks"):
        classical_bounds(0, kind="pocock")
