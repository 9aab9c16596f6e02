"""Several comparisons in one study: Holm and Bonferroni."""

import numpy as np
from numpy.typing import ArrayLike

from harness.analysis.stats.arrays import FloatArray


def holm(p_values: ArrayLike) -> FloatArray:
    """Holm's step-down adjusted p values: reject where adjusted p < alpha.

    With p ascending, `adjusted_(i) = max_{j <= i} min(1, (m - j + 1) p_(j))`. The probability of
    any false rejection is at most alpha whatever the dependence between the tests.

    Args:
        p_values: shape (..., m); each family lies along the last axis.

    Raises:
        ValueError: a p outside [0, 1] or not a number.

    Source: Holm, Scandinavian Journal of Statistics 6 (1979) 65-70. SciPy has none.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not np.all((p >= 0.0) & (p <= 1.0)):
        raise ValueError(f"p values must lie in [0, 1], got {p.tolist()}")
    if p.size == 0:
        return p.copy()
    order = np.argsort(p, axis=-1, kind="stable")
    factors = np.arange(p.shape[-1], 0, -1, dtype=np.float64)
    stepped = np.take_along_axis(p, order, axis=-1) * factors
    adjusted_sorted = np.minimum(np.maximum.accumulate(stepped, axis=-1), 1.0)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, adjusted_sorted, axis=-1)
    return adjusted


def bonferroni(p_values: ArrayLike) -> FloatArray:
    """`min(1, m p)` along the last axis: wider than Holm, but it has matching intervals."""
    p = np.asarray(p_values, dtype=np.float64)
    return np.asarray(np.minimum(p * p.shape[-1], 1.0))
