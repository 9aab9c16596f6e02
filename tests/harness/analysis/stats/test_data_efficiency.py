"""The multi-horizon fit against published losses."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.analysis.stats.data_efficiency import (
    REACH,
    PowerLaw,
    data_efficiency,
    fit_power_law,
)

HORIZONS = np.array([1.0, 2.0, 4.0, 8.0])
C4_130M = np.array([3.52914, 3.40779, 3.32166, 3.26056])


@pytest.mark.parametrize(
    ("baseline", "muon", "speedup"),
    [
        (C4_130M, 3.23731, 1.408),
        ([2.90427, 2.83599, 2.78712, 2.75228], 2.74836, 1.099),
    ],
)
@pytest.mark.parametrize("unit", [1.0, 2.6e9])
def test_the_speedup_agrees_with_the_reference_numbers(baseline, muon, speedup, unit) -> None:
    law = fit_power_law(HORIZONS * unit, baseline)
    assert law.data_for(muon) / (8.0 * unit) == pytest.approx(speedup, abs=5e-4)
    assert law.residual < 1e-4


def test_a_known_law_is_recovered() -> None:
    law = fit_power_law(
        [1e6, 3e6, 1e7, 3e7, 1e8], 50.0 * np.array([1e6, 3e6, 1e7, 3e7, 1e8]) ** -0.3 + 2.5
    )
    assert (law.a, law.b, law.c) == pytest.approx((50.0, 0.3, 2.5), rel=1e-4)
    assert law.data_for(50.0 * 2e7**-0.3 + 2.5) == pytest.approx(2e7, rel=1e-4)


def test_no_amount_of_data_reaches_the_floor() -> None:
    law = PowerLaw(a=0.4, b=0.5, c=3.1, residual=0.0)
    assert law.data_for(3.1) == math.inf
    assert law.data_for(3.0) == math.inf


C4_1200M = np.array([2.90427, 2.83599, 2.78712, 2.75228])
REFERENCES = {"130M": (C4_130M, 3.23731, 1.40764), "1.2B": (C4_1200M, 2.74836, 1.09918)}


def noisy(
    rng: np.random.Generator, seeds: int, *, noise: float = 0.003, reference: str = "130M"
) -> tuple[np.ndarray, np.ndarray]:
    baseline, variant, _ = REFERENCES[reference]
    losses = baseline[:, None] + rng.normal(0.0, noise, size=(4, seeds))
    return losses, variant + rng.normal(0.0, noise, size=seeds)


@pytest.mark.parametrize("noise", [0.003, 0.01, 0.03])
def test_the_interval_covers_the_truth_as_often_as_it_says(noise: float) -> None:
    """480 studies of 3, 5 and 8 seeds; the table in the docstring has 4,000 a cell."""
    rng = np.random.default_rng(54)
    covered = judged = 0
    for study in range(480):
        reference = ("130M", "1.2B")[study % 2]
        baseline, variant = noisy(rng, (3, 5, 8)[study % 3], noise=noise, reference=reference)
        try:
            result = data_efficiency(HORIZONS, baseline, variant, variant_data=8.0)
        except ValueError:
            continue  # the exponent is at its bound, which noise does to 1 in 5 at the worst
        if result.low is None and result.high is None:
            assert result.note
            continue
        judged += 1
        truth = REFERENCES[reference][2]
        covered += (result.low or 0.0) <= truth <= (result.high or math.inf)
    assert judged > 400
    assert abs(covered / judged - 0.95) <= 3.0 * math.sqrt(0.95 * 0.05 / judged)


def test_the_ends_of_the_interval_are_where_a_t_test_begins_to_reject() -> None:
    """By its definition, with a numerical derivative of the whole fit in place of the formula."""
    baseline, variant = noisy(np.random.default_rng(53), 5)
    result = data_efficiency(HORIZONS, baseline, variant, variant_data=8.0)

    def loss_at(data: float, means: np.ndarray) -> float:
        law = fit_power_law(HORIZONS, means)
        return law.a * data**-law.b + law.c

    assert result.low is not None
    assert result.high is not None
    means = baseline.mean(axis=1)
    for end in (result.low, result.high):
        step = 1e-4 * np.eye(4)
        weights = [
            (loss_at(8.0 * end, means + e) - loss_at(8.0 * end, means - e)) / 2e-4 for e in step
        ]
        psi = variant - np.array(weights) @ baseline
        t = (variant.mean() - loss_at(8.0 * end, means)) / (psi.std(ddof=1) / math.sqrt(5))
        # Exact on the fitted law; its derivative differs by the misfit, which noise leaves small.
        assert abs(t) == pytest.approx(stats.t.isf(0.025, 4), rel=0.03)


def test_too_much_noise_leaves_a_lower_bound_that_says_so() -> None:
    rng = np.random.default_rng(56)
    open_ends = 0
    for _ in range(40):
        baseline, variant = noisy(rng, 3, noise=0.01)
        result = data_efficiency(HORIZONS, baseline, variant, variant_data=8.0)
        if result.low is not None and result.high is None:
            open_ends += 1
            assert "only a lower bound" in str(result.note)
    assert 10 <= open_ends <= 35


def test_a_variant_a_little_below_the_floor_still_has_a_lower_bound() -> None:
    baseline, variant = noisy(np.random.default_rng(57), 5, noise=0.01)
    law = fit_power_law(HORIZONS, baseline.mean(axis=1))
    shifted = variant - variant.mean() + law.c - 0.001
    result = data_efficiency(HORIZONS, baseline, shifted, variant_data=8.0)
    assert (result.speedup, result.high) == (None, None)
    assert result.low is not None
    assert 1.0 < result.low < REACH


@given(
    st.integers(0, 10_000),
    st.integers(3, 6),
    st.floats(0.1, 1e12),
    st.floats(-2.0, 2.0),
    st.floats(0.2, 5.0),
)
@settings(max_examples=60, deadline=None)
def test_the_unit_of_the_data_a_shift_and_a_factor_of_the_losses_change_nothing(
    seed: int, seeds: int, unit: float, shift: float, factor: float
) -> None:
    baseline, variant = noisy(np.random.default_rng(seed), seeds, noise=0.002)
    one = data_efficiency(HORIZONS, baseline, variant, variant_data=8.0)
    other = data_efficiency(
        HORIZONS * unit,
        factor * baseline + shift,
        factor * variant + shift,
        variant_data=8.0 * unit,
    )
    assert (other.speedup, other.low) == pytest.approx((one.speedup, one.low), rel=1e-4)
    if one.high is not None and one.high < 50.0:
        assert other.high == pytest.approx(one.high, rel=1e-3)
    assert one.low is not None
    assert one.speedup is not None
    assert one.low < one.speedup < (one.high or math.inf)


@pytest.mark.parametrize(
    ("losses", "why"),
    [
        (3.0 - 0.1 * np.log(HORIZONS), "no floor"),
        (3.0 + np.array([0.5, 0.01, 0.0, 0.0]), "reach their floor"),
    ],
)
def test_an_exponent_at_its_bound_is_no_fit(losses: np.ndarray, why: str) -> None:
    with pytest.raises(ValueError, match=rf"at its bound.*{why}"):
        fit_power_law(HORIZONS, losses)
    with pytest.raises(ValueError, match="at its bound"):
        data_efficiency(HORIZONS, np.repeat(losses[:, None], 3, 1), np.full(3, 2.5), variant_data=8)


@pytest.mark.parametrize("b", [0.012, 0.1, 0.5, 2.9])
def test_an_exponent_inside_its_bounds_is_a_fit(b: float) -> None:
    law = fit_power_law(HORIZONS, 0.5 * HORIZONS**-b + 2.0)
    assert law.b == pytest.approx(b, rel=1e-3)


def test_of_two_valleys_the_deeper_is_taken() -> None:
    """A dense search over b finds no better law than the fit."""
    rng = np.random.default_rng(58)
    for _ in range(40):
        y = C4_130M + rng.normal(0.0, 0.03, size=4)
        try:
            law = fit_power_law(HORIZONS, y)
        except ValueError:
            continue
        best = min(
            np.polyfit(HORIZONS**-b, y, 1, full=True)[1][0] for b in np.geomspace(0.01, 3.0, 150)
        )
        assert 4.0 * law.residual**2 <= best * (1.0 + 1e-6)


def test_seeds_that_move_all_runs_alike_are_no_noise() -> None:
    """A shift of every loss moves the floor and nothing else."""
    shift = np.array([-0.02, 0.0, 0.01, 0.03])
    result = data_efficiency(HORIZONS, C4_130M[:, None] + shift, 3.23731 + shift, variant_data=8.0)
    assert result.speedup == pytest.approx(1.408, abs=5e-4)
    assert (result.low, result.high) == (None, None)
    assert "all seeds agree" in str(result.note)


def test_permuting_the_seeds_changes_nothing() -> None:
    baseline, variant = noisy(np.random.default_rng(52), 5)
    order = [3, 1, 4, 0, 2]
    one = data_efficiency(HORIZONS, baseline, variant, variant_data=8.0)
    other = data_efficiency(HORIZONS, baseline[:, order], variant[order], variant_data=8.0)
    assert (other.speedup, other.low) == pytest.approx((one.speedup, one.low), rel=1e-6)
    assert one.extrapolated


def test_a_variant_below_the_floor_has_no_finite_speedup() -> None:
    baseline = np.repeat(C4_130M[:, None], 3, axis=1)
    result = data_efficiency(HORIZONS, baseline, [2.0, 2.0, 2.0], variant_data=8.0)
    assert (result.speedup, result.low, result.high) == (None, None, None)
    assert "all seeds agree" in str(result.note)
    baseline, variant = noisy(np.random.default_rng(59), 5)
    result = data_efficiency(HORIZONS, baseline, variant - 1.0, variant_data=8.0)
    assert (result.speedup, result.low, result.high) == (None, None, None)
    assert "100 times its longest horizon" in str(result.note)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_power_law([1, 2, 4], [3.0, 2.0, 1.0]), "4 or more horizons"),
        (lambda: fit_power_law([1, 2, 4, 8], [1.0, 2.0, 3.0, 4.0]), "does not fall"),
        (lambda: fit_power_law([0, 2, 4, 8], [4.0, 3.0, 2.0, 1.0]), "positive"),
        (
            lambda: data_efficiency(HORIZONS, np.ones((4, 2)), np.ones(2), variant_data=8.0),
            "at least 3",
        ),
        (
            lambda: data_efficiency(HORIZONS, np.ones((4, 3)), np.ones(4), variant_data=8.0),
            "give",
        ),
    ],
)
def test_a_fit_without_enough_data_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
