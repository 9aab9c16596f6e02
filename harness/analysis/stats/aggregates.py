"""Aggregates over runs and tasks, and the curve of tuning."""

from math import comb

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from harness.analysis.stats.arrays import FloatArray, as_float
from harness.analysis.stats.effects import a12


def interquartile_mean(scores: ArrayLike) -> float:
    """The mean of the middle half of all scores together: robust, yet it uses more than a median.

    Args:
        scores: any shape, for example (runs, tasks); the tasks need one scale.

    Source: Agarwal et al., NeurIPS 2021 (rliable); `scipy.stats.trim_mean(scores, 0.25)`.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError("the interquartile mean needs finite scores, at least one")
    return as_float(stats.trim_mean(values, 0.25, axis=None))


def probability_of_improvement(
    variant: ArrayLike, baseline: ArrayLike, *, lower_is_better: bool = True
) -> float:
    """The chance that a run of the variant beats one of the baseline, averaged over tasks.

    `mean over tasks of P(better) + P(equal) / 2`.

    Args:
        variant, baseline: shapes (n_x, tasks) and (n_y, tasks).
        lower_is_better: True for losses; False for scores, as in the source.

    Source: Agarwal et al., NeurIPS 2021 (rliable).
    """
    x, y = np.asarray(variant, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"variant {x.shape} and baseline {y.shape} must be (runs, tasks)")
    sign = 1.0 if lower_is_better else -1.0
    wins = [a12(sign * x[:, task], sign * y[:, task]) for task in range(x.shape[1])]
    return float(np.mean(wins))


def expected_best_of_k(values: ArrayLike) -> FloatArray:
    """The expected lowest loss of k trials, k = 1..B: `sum_i v_(i) C(B - i, k - 1) / C(B, k)`.

    It draws the tuning curve: what a budget of k of these B random trials would have found.

    Args:
        values: shape (B,), the final losses of all trials of a random search; a diverged trial
            enters as the worst value that the caller is ready to defend, never as a gap.

    Returns:
        shape (B,), entry k - 1 for k trials; never increasing.

    Source: Dodge et al., EMNLP 2019, in the unbiased form without replacement.
    """
    v = np.sort(np.asarray(values, dtype=np.float64))
    if v.ndim != 1 or v.size == 0 or not np.isfinite(v).all():
        raise ValueError("expected_best_of_k needs a vector of finite values, at least one")
    b = v.size
    weights = np.array(
        [[comb(b - i, k - 1) / comb(b, k) for i in range(1, b + 1)] for k in range(1, b + 1)]
    )
    return np.asarray(weights @ v)
