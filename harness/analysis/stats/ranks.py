"""Average ranks over tasks, Friedman's test, and which contestants Nemenyi's test cannot separate.

Ranks ask nothing of the scale of a task: a loss in nats and one in bits rank alike.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from harness.analysis.stats.arrays import FloatArray, as_float, check_level

FEW_TASKS = 5
"""Below, Friedman's chi-square is a poor approximation and hardly anything can be separated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FriedmanTest:
    """`p` of the hypothesis that no contestant tends to rank before another."""

    statistic: float
    p: float


def task_ranks(values: ArrayLike) -> FloatArray:
    """Ranks within each task, 1 the lowest value; ties share their mean rank.

    Args:
        values: shape (..., contestants, tasks), lower is better; infinity ranks last.
    """
    v = np.asarray(values, dtype=np.float64)
    if v.ndim < 2 or np.isnan(v).any():
        raise ValueError(f"values {v.shape} must be (contestants, tasks), without gaps")
    return np.asarray(stats.rankdata(v, axis=-2), dtype=np.float64)


def friedman(values: ArrayLike) -> FriedmanTest:
    """Friedman's test over tasks, corrected for ties.

    Args:
        values: shape (contestants, tasks), three contestants or more, two tasks or more.

    Raises:
        ValueError: fewer.

    Source: `scipy.stats.friedmanchisquare`; Demsar, Journal of Machine Learning Research 7 (2006)
    1-30.
    """
    ranks = task_ranks(values)
    if ranks.ndim != 2 or ranks.shape[0] < 3 or ranks.shape[1] < 2:
        raise ValueError(
            f"{ranks.shape[0]} contestants on {ranks.shape[1]} tasks: "
            "Friedman's test needs 3 or more on 2 or more"
        )
    if (ranks == ranks[:1]).all():
        return FriedmanTest(statistic=0.0, p=1.0)  # all tied: SciPy would divide by zero
    found = stats.friedmanchisquare(*ranks)
    return FriedmanTest(statistic=as_float(found.statistic), p=as_float(found.pvalue))


def critical_difference(contestants: int, tasks: int, *, alpha: float = 0.05) -> float:
    """`CD = q sqrt(k (k + 1) / (6 N))`: mean ranks at least that far apart are separated.

    q is the quantile of the studentized range of k groups with infinite degrees of freedom, over
    sqrt(2). With k contestants, N tasks and all pairs compared, alpha is family-wise.

    Source: Nemenyi (1963), as in Demsar (2006), table 5 (a), whose q are reproduced.
    """
    check_level(alpha, name="alpha")
    if contestants < 2 or tasks < 1:
        raise ValueError(f"{contestants} contestants on {tasks} tasks: give 2 or more on 1 or more")
    q = as_float(stats.studentized_range.isf(alpha, contestants, math.inf)) / math.sqrt(2.0)
    return q * math.sqrt(contestants * (contestants + 1) / (6.0 * tasks))


def not_separated(mean_ranks: Sequence[float], *, difference: float) -> tuple[tuple[int, ...], ...]:
    """Maximal groups of two or more whose mean ranks span less than the critical difference.

    The bars of a critical-difference diagram. Groups may overlap.

    Args:
        mean_ranks: one a contestant.

    Returns:
        indices into `mean_ranks`, best first, in each group and over the groups.
    """
    order = sorted(range(len(mean_ranks)), key=lambda index: mean_ranks[index])
    groups: list[tuple[int, ...]] = []
    reached = 0
    for start in range(len(order)):
        end = start
        while end < len(order) and mean_ranks[order[end]] - mean_ranks[order[start]] < difference:
            end += 1
        if end - start >= 2 and end > reached:
            groups.append(tuple(order[start:end]))
            reached = end
    return tuple(groups)
