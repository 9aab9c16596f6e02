"""Planning: what n seeds can and cannot show."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from harness.analysis.stats.arrays import MINIMUM_SEEDS, as_float, check_level
from harness.analysis.stats.permutation import minimum_permutation_p, minimum_sign_flip_p
from harness.analysis.stats.quadrature import gauss_legendre

Pairs = Literal["paired", "unpaired"]

MAXIMUM_SEEDS = 10_000
"""Nobody trains a variant more often; a plan that needs more is answered with None."""

_NODES = 200
"""Gauss-Legendre nodes over the noise estimate; 100 already agree to 1e-9."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """What `seeds` seeds a variant can show with alpha shared by `comparisons`.

    `detectable_difference` is in the unit of sigma, `detectable_in_sigmas` in multiples of it
    (known without any noise level). `exact_test_can_decide` tells whether the sign-flip test could
    reach alpha / comparisons at all.
    """

    seeds: int
    comparisons: int
    design: Pairs
    alpha: float
    power: float
    sigma: float | None
    correlation: float
    minimum_exact_p: float
    exact_test_can_decide: bool
    detectable_in_sigmas: float
    detectable_difference: float | None


def pooled_sd(groups: Sequence[ArrayLike]) -> float:
    """The standard deviation of one run over seeds, from earlier results of several variants.

    `sqrt(sum over groups of SS / sum of (n - 1))`; groups with fewer than 2 runs say nothing.

    Args:
        groups: final values of each variant over its seeds.

    Raises:
        ValueError: no group has two runs, or nothing varied.
    """
    values = [np.asarray(group, dtype=np.float64) for group in groups]
    freedom = sum(v.size - 1 for v in values if v.size > 1)
    squares = sum(float(((v - v.mean()) ** 2).sum()) for v in values if v.size > 1)
    if freedom < 1 or not squares > 0.0:
        raise ValueError(
            "these results show no noise: a variant with at least two seeds that differ is needed"
        )
    return math.sqrt(squares / freedom)


def power_of_t(
    difference: float, *, sd: float, seeds: int, alpha: float = 0.05, design: Pairs = "paired"
) -> float:
    """The probability that the two-sided t test finds a true difference.

    `P(|T| > t_{alpha/2, n-1})` for the noncentral t with noncentrality `difference / se`: paired
    `se = sd / sqrt(n)` and n - 1 degrees of freedom; unpaired `se = sd sqrt(2 / n)` and 2n - 2
    (equal variances), held against the cautious critical value of `mean_tests.welch_t`.

    Args:
        sd: of the paired differences, or of one run when unpaired.
        seeds: n on each side.

    Source: Cohen, Statistical Power Analysis, 1988. `scipy.stats.nct.cdf` returns NaN for some
    negative arguments, so both tails are survival functions.
    """
    scale, v = _scale(sd=sd, seeds=seeds, design=design)
    noncentrality = abs(difference) / scale
    critical = as_float(stats.t.isf(check_level(alpha, name="alpha") / 2.0, seeds - 1))
    upper = as_float(stats.nct.sf(critical, v, noncentrality))
    lower = as_float(stats.nct.sf(critical, v, -noncentrality))
    return min(1.0, upper + lower)


def power_of_tost(
    margin: float,
    *,
    sd: float,
    seeds: int,
    difference: float = 0.0,
    alpha: float = 0.05,
    design: Pairs = "paired",
) -> float:
    """The probability that TOST proves equivalence within `margin` at a true difference.

    Given the noise estimate s, both tests reject where `|mean| < margin - t_{alpha, v} s`;
    integrated over `v s^2 / sigma^2 ~ chi^2_v`.

    Source: Phillips, Journal of Pharmacokinetics and Biopharmaceutics 18 (1990) 137-144.
    """
    scale, v = _scale(sd=sd, seeds=seeds, design=design)
    if not margin > 0.0:
        raise ValueError(f"margin ({margin}) must be positive")
    critical = as_float(stats.t.isf(check_level(alpha, name="alpha"), seeds - 1))
    # Beyond this s the two rejection regions no longer meet; beneath it the integrand is smooth.
    largest = margin / scale / critical
    widest = math.sqrt(as_float(stats.chi2.isf(1e-14, v)) / v)
    s, weights = gauss_legendre(0.0, min(largest, widest), nodes=_NODES)
    density = stats.chi2.pdf(v * s**2, v) * 2.0 * v * s
    inside = stats.norm.cdf((margin - difference) / scale - critical * s) - stats.norm.cdf(
        (-margin - difference) / scale + critical * s
    )
    return float(np.clip(np.sum(weights * density * inside), 0.0, 1.0))


def detectable_difference(
    *, sd: float, seeds: int, alpha: float = 0.05, power: float = 0.8, design: Pairs = "paired"
) -> float:
    """The smallest true difference that the t test finds with probability `power`."""
    check_level(power, name="power")
    if power <= alpha:
        raise ValueError(f"power ({power}) must be above alpha ({alpha})")
    scale, _ = _scale(sd=sd, seeds=seeds, design=design)

    def excess(noncentrality: float) -> float:
        found = power_of_t(noncentrality * scale, sd=sd, seeds=seeds, alpha=alpha, design=design)
        return found - power

    upper = 1.0
    while excess(upper) < 0.0:
        upper *= 2.0
    return as_float(optimize.brentq(excess, 0.0, upper, xtol=1e-10)) * scale


def seeds_needed(
    difference: float,
    *,
    sd: float,
    alpha: float = 0.05,
    power: float = 0.8,
    design: Pairs = "paired",
) -> int | None:
    """The seeds a side that find `difference` with probability `power`; None above 10,000."""
    if difference == 0.0:
        return None
    check_level(power, name="power")
    return _first(
        lambda n: power_of_t(difference, sd=sd, seeds=n, alpha=alpha, design=design) >= power
    )


def seeds_for_equivalence(
    margin: float,
    *,
    sd: float,
    difference: float = 0.0,
    alpha: float = 0.05,
    power: float = 0.8,
    design: Pairs = "paired",
) -> int | None:
    """The seeds a side that prove equivalence with probability `power`; None above 10,000."""
    if abs(difference) >= margin:
        return None
    check_level(power, name="power")
    return _first(
        lambda n: (
            power_of_tost(margin, sd=sd, seeds=n, difference=difference, alpha=alpha, design=design)
            >= power
        )
    )


def seeds_to_settle(
    difference: float,
    *,
    sd: float,
    alpha: float,
    comparisons: int = 1,
    power: float = 0.8,
    margin: float | None = None,
    design: Pairs = "paired",
) -> int | None:
    """The fewest seeds a side with which a new study of the same difference would be decided.

    By the interval at `1 - alpha / comparisons`: either it leaves 0 out or, if there is a margin,
    it lies within it; None if neither within 10,000 seeds.

    The observed difference and noise stand in for the true ones, so this is a plan for fresh
    seeds, not a statement about the seeds at hand.
    """
    found = seeds_needed(difference, sd=sd, alpha=alpha / comparisons, power=power, design=design)
    equal = (
        None
        if margin is None
        else seeds_for_equivalence(
            margin,
            sd=sd,
            difference=difference,
            alpha=alpha / comparisons / 2.0,  # each end of the interval has half of the share
            power=power,
            design=design,
        )
    )
    return min((seeds for seeds in (found, equal) if seeds is not None), default=None)


def capability(
    seeds: int,
    *,
    comparisons: int = 1,
    alpha: float = 0.05,
    power: float = 0.8,
    design: Pairs = "paired",
    sigma: float | None = None,
    correlation: float = 0.0,
) -> Capability:
    """What a plan of `seeds` seeds a variant can show.

    Args:
        comparisons: variants that are compared with the baseline; alpha is split over them.
        sigma: standard deviation of the final loss of one run over seeds, from earlier runs.
        correlation: of the two runs of a seed; 0, the default, promises nothing from pairing.

    Raises:
        ValueError: fewer than 3 seeds, or a correlation outside [-1, 1).
    """
    if comparisons < 1:
        raise ValueError(f"comparisons ({comparisons}) must be at least 1")
    if not -1.0 <= correlation < 1.0:
        raise ValueError(f"correlation ({correlation}) must lie in [-1, 1)")
    share = check_level(alpha, name="alpha") / comparisons
    # sd of the difference of two runs with unit sigma: sqrt(2 (1 - correlation)).
    unit = math.sqrt(2.0 * (1.0 - correlation)) if design == "paired" else 1.0
    in_sigmas = detectable_difference(sd=unit, seeds=seeds, alpha=share, power=power, design=design)
    minimum = (
        minimum_sign_flip_p(seeds) if design == "paired" else minimum_permutation_p(seeds, seeds)
    )
    return Capability(
        seeds=seeds,
        comparisons=comparisons,
        design=design,
        alpha=alpha,
        power=power,
        sigma=sigma,
        correlation=correlation if design == "paired" else 0.0,
        minimum_exact_p=minimum,
        exact_test_can_decide=minimum < share,
        detectable_in_sigmas=in_sigmas,
        detectable_difference=None if sigma is None else in_sigmas * sigma,
    )


def _scale(*, sd: float, seeds: int, design: Pairs) -> tuple[float, int]:
    if not (sd > 0.0 and math.isfinite(sd)):
        raise ValueError(f"the standard deviation ({sd}) must be positive and finite")
    if seeds < MINIMUM_SEEDS:
        raise ValueError(f"seeds ({seeds}) must be at least {MINIMUM_SEEDS}")
    if design == "paired":
        return sd / math.sqrt(seeds), seeds - 1
    return sd * math.sqrt(2.0 / seeds), 2 * seeds - 2


def _first(enough: Callable[[int], bool]) -> int | None:
    """The smallest n in [3, 10,000] from which on `enough` holds; power grows with n."""
    if not enough(MAXIMUM_SEEDS):
        return None
    low, high = MINIMUM_SEEDS - 1, MAXIMUM_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
