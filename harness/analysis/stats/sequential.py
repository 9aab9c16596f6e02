"""Adding seeds without adding false positives: fixed looks with O'Brien-Fleming-type spending.

Looking at p < 0.05 after every seed from 3 to 10 is a false-positive rate of 0.17. Here the looks
are fixed before the first run and each gets its own, smaller threshold. The usual thresholds are
made for normal statistics and let too much through for t statistics of a few seeds (0.053 for
looks at 4, 7 and 10), so they are calibrated for the t process of the actual looks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from harness.analysis.stats.arrays import MINIMUM_SEEDS, FloatArray, as_float, check_level
from harness.analysis.stats.quadrature import gauss_legendre

_NODES = 240
"""Gauss-Legendre nodes of the recursion; 120 already agree to 1e-8."""

DRAWS = 2_000_000
"""Studies drawn for a calibration: the standard error of an error of 0.05 is 0.00015."""

_MARGIN_SE = 2.0
"""A calibration stays this many standard errors of its simulation below what it may spend."""

_CHUNK = 250_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LookBounds:
    """The nominal two-sided p at each look: stop with a verdict where p <= nominal_p.

    A nominal p of 0 means that this look is too early to decide anything.
    """

    looks: tuple[int, ...]
    nominal_p: tuple[float, ...]
    spent: tuple[float, ...]
    alpha: float


def obrien_fleming_spending(fraction: float, *, alpha: float) -> float:
    """`alpha(t) = 4 - 4 Phi(z_{alpha/4} / sqrt(t))`: the error that may be spent by time t.

    Args:
        fraction: t = n / n_max in (0, 1].

    Source: Lan and DeMets, Biometrika 70 (1983) 659-663, both sides together.
    """
    if not 0.0 < fraction <= 1.0:
        raise ValueError(f"fraction ({fraction}) must lie in (0, 1]")
    z = as_float(stats.norm.isf(check_level(alpha, name="alpha") / 4.0))
    return 4.0 * as_float(stats.norm.sf(z / math.sqrt(fraction)))


def crossing_probabilities(bounds: Sequence[float], *, fractions: Sequence[float]) -> FloatArray:
    """The chance, without an effect, to cross `|Z_k| >= bounds[k]` first at look k.

    Z_k = B(t_k) / sqrt(t_k) for a Brownian motion B, integrated look by look.

    Source: Armitage, McPherson and Rowe, Journal of the Royal Statistical Society A 132 (1969)
    235-244.
    """
    crossing = np.zeros(len(bounds))
    position, mass = np.zeros(1), np.ones(1)  # where B stands, uncrossed, and with what weight
    before = 0.0
    for k, (bound, fraction) in enumerate(zip(bounds, fractions, strict=True)):
        end, step = bound * math.sqrt(fraction), math.sqrt(fraction - before)
        outside = stats.norm.sf((end - position) / step) + stats.norm.cdf((-end - position) / step)
        crossing[k] = float(mass @ outside)
        here, weights = gauss_legendre(-end, end, nodes=_NODES)
        density = stats.norm.pdf((here[:, None] - position) / step) / step
        mass = weights * (density @ mass)
        position, before = here, fraction
    return crossing


def normal_bounds(fractions: Sequence[float], *, alpha: float = 0.05) -> FloatArray:
    """The z bounds that spend `obrien_fleming_spending` at each look, for normal statistics."""
    bounds: list[float] = []
    spent = 0.0
    for k, fraction in enumerate(fractions):
        target = obrien_fleming_spending(fraction, alpha=alpha)
        increment = target - spent

        def excess(bound: float, k: int = k, increment: float = increment) -> float:
            tried = crossing_probabilities([*bounds, bound], fractions=fractions[: k + 1])
            return float(tried[k]) - increment

        bounds.append(as_float(optimize.brentq(excess, 0.1, 12.0, xtol=1e-10)))
        spent = target
    return np.asarray(bounds)


def classical_bounds(
    looks: int, *, kind: Literal["obrien_fleming", "pocock"], alpha: float = 0.05
) -> FloatArray:
    """The z bounds of equally spaced looks: `c sqrt(K / k)` (O'Brien-Fleming) or `c` (Pocock).

    Source: O'Brien and Fleming, Biometrics 35 (1979) 549-556; Pocock, Biometrika 64 (1977) 191.
    """
    if looks < 1:
        raise ValueError(f"looks ({looks}) must be at least 1")
    fractions = np.arange(1, looks + 1) / looks
    shape = np.sqrt(1.0 / fractions) if kind == "obrien_fleming" else np.ones(looks)

    def excess(constant: float) -> float:
        crossing = crossing_probabilities(list(constant * shape), fractions=list(fractions))
        return float(crossing.sum()) - alpha

    return as_float(optimize.brentq(excess, 0.5, 8.0, xtol=1e-10)) * shape


def calibrated_bounds(
    looks: Sequence[int],
    rng: np.random.Generator,
    *,
    alpha: float = 0.05,
    draws: int = DRAWS,
) -> LookBounds:
    """Nominal p values at each look that spend at most alpha for t statistics.

    Studies without an effect are drawn; at each look the nominal p is the largest one at which the
    share of studies that crossed so far stays two standard errors below
    `obrien_fleming_spending(n / n_max)`.

    The process is that of a t with n - 1 degrees of freedom: exact for pairs and for one sample,
    cautious for `mean_tests.welch_t`, whose runs come to it when one side has all the noise.

    Args:
        looks: numbers of seeds, ascending and at least 3 each, fixed before the first run.
        rng: draws the studies.
        alpha: for this comparison; with K variants give alpha / K, the split fixed up front.
    """
    looks = tuple(looks)
    assert list(looks) == sorted({*looks}), f"looks {looks} are not ascending"
    assert looks[0] >= MINIMUM_SEEDS, f"looks {looks} begin below {MINIMUM_SEEDS} seeds"
    p = np.concatenate(
        [
            look_p_values(
                looks,
                rng,
                studies=min(_CHUNK, draws - start),
                at_most=min(1.0, 2.0 * alpha),
            )
            for start in range(0, draws, _CHUNK)
        ]
    )
    nominal: list[float] = []
    spent: list[float] = []
    running = np.ones(draws, dtype=bool)
    for k, look in enumerate(looks):
        may_spend = obrien_fleming_spending(look / looks[-1], alpha=alpha)
        cautious = may_spend - _MARGIN_SE * math.sqrt(may_spend * (1.0 - may_spend) / draws)
        allowed = math.floor(cautious * draws) - int((~running).sum())
        bound = _bound(p[running, k], allowed)
        running &= ~(p[:, k] <= bound)
        nominal.append(bound)
        spent.append(1.0 - float(running.mean()))
    return LookBounds(
        looks=looks,
        nominal_p=tuple(nominal),
        spent=tuple(spent),
        alpha=alpha,
    )


def look_p_values(
    looks: Sequence[int],
    rng: np.random.Generator,
    *,
    studies: int,
    difference: float = 0.0,
    at_most: float = 1.0,
) -> FloatArray:
    """The two-sided p at every look of many Gaussian studies, shape (studies, looks).

    Only the sums and sums of squares that a look adds are drawn: `N(0, m)` and `chi^2_{m-1}`.

    Args:
        difference: true difference in standard deviations of the paired differences.
        at_most: larger p values may be given as 1, which saves most of the time.
    """
    mean, squares = np.zeros(studies), np.zeros(studies)
    p = np.empty((studies, len(looks)))
    seen = 0
    for k, look in enumerate(looks):
        added = look - seen
        fresh = rng.standard_normal(studies) / math.sqrt(added) + difference
        gap = fresh - mean
        mean += gap * (added / look)
        squares += gap**2 * (seen * added / look)
        if added > 1:
            squares += rng.chisquare(added - 1, studies)
        p[:, k] = _t_p(mean, squares / (look - 1), look, at_most=at_most)
        seen = look
    return p


def _t_p(mean: FloatArray, variance: FloatArray, seeds: int, *, at_most: float) -> FloatArray:
    """The p of the t test of a mean; 1 where it is above `at_most`."""
    t = np.abs(mean) / np.sqrt(variance / seeds)
    # The t distribution has wider tails than the normal one: below this |t|, p is above at_most.
    wanted = t >= stats.norm.isf(at_most / 2.0)
    p = np.ones(len(t))
    p[wanted] = 2.0 * special.stdtr(seeds - 1, -t[wanted])
    return p


def _bound(p: FloatArray, allowed: int) -> float:
    """The largest nominal p that at most `allowed` of these studies reach."""
    if allowed <= 0:
        return 0.0
    if allowed >= p.size:
        return 1.0
    ordered: NDArray[np.float64] = np.partition(p, allowed)[: allowed + 1]
    return float(np.sort(ordered)[allowed - 1])
