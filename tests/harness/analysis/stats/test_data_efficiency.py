"""The multi-horizon fit against published losses."""

import math

import numpy as np
import pytest
from scipy import stats

from harness.analysis.stats.data_efficiency import PowerLaw, data_efficiency, fit_power_law

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


def noisy(rng: np.random.Generator, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    baseline = C4_130M[:, None] + rng.normal(0.0, 0.003, size=(4, seeds))
    return baseline, 3.23731 + rng.normal(0.0, 0.003, size=seeds)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(51)
    covered = 0
    for _ in range(200):
        baseline, variant = noisy(rng, 5)
        result = data_efficiency(HORIZONS, baseline, variant, variant_data=8.0)
        assert result.low is not None
        assert result.high is not None
        covered += result.low <= 1.40764 <= result.high
    assert covered >= 200 * 0.95 - 4 * math.sqrt(200 * 0.95 * 0.05)


def test_the_interval_is_the_jackknife_over_seeds() -> None:
    """Variance `(n - 1) / n * sum (theta_i - mean)^2` (Efron 1982), on log speed-up."""
    baseline, variant = noisy(np.random.default_rng(53), 4)
    result = data_efficiency(HORIZONS, baseline, variant, variant_data=8.0)
    kept = [[j for j in range(4) if j != left_out] for left_out in range(4)]
    logs = np.array(
        [
            math.log(fit_power_law(HORIZONS, baseline[:, k].mean(1)).data_for(variant[k].mean()))
            for k in kept
        ]
    )
    half = stats.t.isf(0.025, 3) * math.sqrt(3 / 4 * ((logs - logs.mean()) ** 2).sum())
    assert result.speedup is not None
    assert result.low == pytest.approx(result.speedup * math.exp(-half))
    assert result.high == pytest.approx(result.speedup * math.exp(half))


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
