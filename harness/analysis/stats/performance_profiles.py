"""Performance profiles: how often a contestant is within a factor of the fastest, over tasks."""

import math

import numpy as np
from numpy.typing import ArrayLike

from harness.analysis.stats.arrays import FloatArray


def performance_ratios(costs: ArrayLike) -> FloatArray:
    """`r = cost / lowest cost of the task`: 1 is the fastest, infinity a task that was not reached.

    A task that nobody reached has infinite ratios only: it counts against all of them.

    Args:
        costs: shape (..., contestants, tasks): steps, tokens or time to the target, positive;
            infinity where it was never reached.

    Raises:
        ValueError: a cost that is not positive, or not a number.

    Source: Dolan and More, Mathematical Programming 91 (2002) 201-213.
    """
    c = np.asarray(costs, dtype=np.float64)
    if c.ndim < 2 or c.size == 0:
        raise ValueError(f"costs {c.shape} must be (contestants, tasks)")
    if not (c > 0.0).all():
        raise ValueError("costs must be positive; infinity for a target that was never reached")
    lowest = c.min(axis=-2, keepdims=True)
    reached = np.isfinite(c)
    ratios = np.full_like(c, math.inf)
    np.divide(c, lowest, out=ratios, where=reached)
    return ratios


def share_within(ratios: ArrayLike, taus: ArrayLike) -> FloatArray:
    """The profile `rho(tau)`: the share of tasks whose ratio is at most tau.

    Args:
        ratios: shape (..., tasks), from `performance_ratios`.
        taus: shape (m,), 1 or more.

    Returns:
        shape (..., m); never decreasing in tau, between 0 and 1.
    """
    r, t = np.asarray(ratios, dtype=np.float64), np.asarray(taus, dtype=np.float64)
    return np.asarray((r[..., None, :] <= t[:, None]).mean(axis=-1))


def profile_area(ratios: ArrayLike, *, largest_ratio: float = 4.0) -> FloatArray:
    """The area under the profile from 1 to `largest_ratio`, over its width: a score from 0 to 1.

    `B = 1 / (r_max - 1) * integral from 1 to r_max of rho(tau) dtau`, the benchmark score of
    AlgoPerf with its r_max of 4. Since rho is a step function that is exactly the mean over tasks
    of `max(0, r_max - r) / (r_max - 1)`.

    Args:
        ratios: shape (..., tasks).

    Returns:
        shape (...).

    Source: Dahl et al., arXiv 2306.07179, section 4.4; Kasimbeg et al., ICLR 2025. Difference:
    their code adds up trapezoids between 100 points, which moves a score by up to 0.002.
    """
    if not 1.0 < largest_ratio < math.inf:
        raise ValueError(f"largest_ratio ({largest_ratio}) must be above 1 and finite")
    r = np.asarray(ratios, dtype=np.float64)
    credit = np.maximum(0.0, largest_ratio - r) / (largest_ratio - 1.0)
    return np.asarray(credit.mean(axis=-1))


def profile_steps(
    ratios: ArrayLike, *, largest_ratio: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Where the profile of one contestant rises, and to what: from 1 to `largest_ratio`, both
    included.

    Args:
        ratios: shape (tasks,).
    """
    r = np.asarray(ratios, dtype=np.float64)
    inside = r[r <= largest_ratio]
    taus = np.unique(np.concatenate([[1.0], inside, [largest_ratio]]))
    shares = share_within(r, taus)
    return tuple(map(float, taus)), tuple(map(float, shares))
