"""Where no law fits: the baseline's loss between two lengths, on a straight line over log data.

The loss of a short training falls ever faster with the logarithm of its length before it falls ever
slower, and a law with a floor cannot follow that. Between neighbouring lengths none is needed;
beyond them nothing is said.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from harness.analysis.stats.arrays import (
    MINIMUM_SEEDS,
    FloatArray,
    as_float,
    check_level,
    is_constant,
)

_STEPS = 1_000
"""Speed-ups tried on either side of the estimate before an end is refined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedupBetween:
    """`speedup = D_effective / D`: above 1 the variant needs less data than the baseline.

    The speed-up is None where the variant's mean lies outside the baseline's. An end of the
    interval is None where it would lie beyond the baseline's lengths, or where nothing varied;
    `note` says so in words.
    """

    speedup: float | None
    low: float | None
    high: float | None
    level: float
    seeds: int
    note: str | None = None


def loss_between(data: ArrayLike, losses: ArrayLike, *, at: float) -> float:
    """The loss at a length between two of the baseline's.

    Args:
        data: shape (H,), ascending.
        losses: shape (H,), averaged over seeds.

    Raises:
        ValueError: losses that do not fall all along, or a length beyond the shortest or longest.
    """
    log_data, means = np.log(np.asarray(data, dtype=np.float64)), np.asarray(losses, np.float64)
    _check(log_data, means)
    if not log_data[0] <= math.log(at) <= log_data[-1]:
        raise ValueError(
            f"{at:g} lies outside the baseline's lengths, {np.exp(log_data[0]):g} to "
            f"{np.exp(log_data[-1]):g}"
        )
    return float(np.interp(math.log(at), log_data, means))


def speedup_between(
    data: ArrayLike,
    baseline_losses: ArrayLike,
    variant_losses: ArrayLike,
    *,
    variant_data: float,
    level: float = 0.95,
) -> SpeedupBetween:
    """How many times as much data the baseline needs for the variant's final loss.

    With `y_j(D)` the baseline's loss with seed j, straight over log D between neighbouring lengths,
    D_effective is where its mean over seeds equals the variant's. The interval holds every s that a
    t test over the seeds of `L_j - y_j(s D)` does not reject (Fieller, Journal of the Royal
    Statistical Society B 16 (1954) 175-185).

    Args:
        data: shape (H,), the baseline's lengths, ascending.
        baseline_losses: shape (H, n), final losses; column j from seed j.
        variant_losses: shape (n,), entry j from the same seed j.
        variant_data: the length of the variant, in the unit of `data`.

    Raises:
        ValueError: shapes that do not fit, fewer than 3 seeds, or mean losses that do not fall from
            each length to the next.
    """
    check_level(level, name="level")
    log_data = np.log(np.asarray(data, dtype=np.float64))
    base = np.asarray(baseline_losses, dtype=np.float64)
    own = np.asarray(variant_losses, dtype=np.float64)
    if own.ndim != 1 or base.shape != (log_data.size, own.size):
        raise ValueError(
            f"baseline_losses {base.shape} and variant_losses {own.shape}: "
            f"give ({log_data.size}, seeds) and (seeds,)"
        )
    if own.size < MINIMUM_SEEDS:
        raise ValueError(f"{own.size} seed(s), at least {MINIMUM_SEEDS} are needed for an interval")
    means = base.mean(axis=1)
    _check(log_data, means)
    inside = bool(means[-1] <= own.mean() <= means[0])
    # np.interp wants ascending abscissae: losses fall, so both are turned round.
    effective = float(np.interp(own.mean(), means[::-1], log_data[::-1]))
    low, high, note = _ends(effective, inside, log_data, base, own, level)
    scale = math.log(variant_data)
    return SpeedupBetween(
        speedup=math.exp(effective - scale) if inside else None,
        low=None if low is None else math.exp(low - scale),
        high=None if high is None else math.exp(high - scale),
        level=level,
        seeds=int(own.size),
        note=note,
    )


def _check(log_data: FloatArray, means: FloatArray) -> None:
    if log_data.ndim != 1 or log_data.shape != means.shape or log_data.size < 2:
        raise ValueError(
            f"data {log_data.shape} and losses {means.shape}: give two or more lengths"
        )
    if not (np.diff(log_data) > 0.0).all():
        raise ValueError("lengths must be positive and ascending")
    if not (np.isfinite(means).all() and (np.diff(means) < 0.0).all()):
        raise ValueError("the baseline's loss does not fall from each length to the next")


def _ends(
    effective: float,
    inside: bool,
    log_data: FloatArray,
    base: FloatArray,
    own: FloatArray,
    level: float,
) -> tuple[float | None, float | None, str | None]:
    """The ends of the interval in logarithms, and in words why one is missing."""
    largest = max(float(np.abs(base).max()), float(np.abs(own).max()))
    if all(is_constant(row, scale=largest) for row in (*base, own)):
        return None, None, "every seed gave the same losses: no noise was observed, no interval"
    critical = as_float(stats.t.isf((1.0 - level) / 2.0, own.size - 1))

    def excess(at: FloatArray) -> FloatArray:
        """Positive where the t test rejects that the baseline has the variant's loss there."""
        there = np.stack([np.interp(at, log_data, seed) for seed in base.T])  # (n, m)
        differences = own[:, None] - there
        allowed = critical * differences.std(axis=0, ddof=1) / math.sqrt(own.size)
        return np.asarray(np.abs(differences.mean(axis=0)) - allowed)

    bottom, top = float(log_data[0]), float(log_data[-1])
    low, high = _first_rejected(excess, effective, bottom), _first_rejected(excess, effective, top)
    if not inside and excess(np.array([effective]))[0] > 0.0:
        better = effective == top
        low, high = (top, None) if better else (None, bottom)
    missing = [word for word, end in (("shortest", low), ("longest", high)) if end is None]
    beyond = " and the ".join(missing)
    return low, high, f"open beyond the {beyond} length of the baseline" if missing else None


def _first_rejected(
    excess: Callable[[FloatArray], FloatArray], start: float, end: float
) -> float | None:
    """Where, on the way from `start` to `end`, the test begins to reject; None if it never does."""
    grid = np.linspace(start, end, _STEPS)
    rejected = excess(grid) > 0.0
    if not rejected.any():
        return None
    first = int(np.argmax(rejected))
    if first == 0:
        return start

    def excess_at(at: float) -> float:
        return float(excess(np.array([at]))[0])

    left, right = sorted((float(grid[first - 1]), float(grid[first])))
    return as_float(optimize.brentq(excess_at, left, right, xtol=1e-12))
