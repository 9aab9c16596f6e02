"""Equivalence within a practical margin: two one-sided tests (TOST), and what the margin is."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from harness.analysis.stats.arrays import (
    as_float,
    is_constant,
    one_side_may_be_constant,
    paired_samples,
    sample,
)

Design = Literal["paired", "welch", "pooled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EquivalenceTest:
    """`p` is the larger of the two one-sided p values: equivalent where p < alpha."""

    margin: float
    p: float
    p_above_minus_margin: float
    p_below_plus_margin: float


def tost(
    variant: ArrayLike, baseline: ArrayLike, *, margin: float, design: Design = "paired"
) -> EquivalenceTest:
    """Whether the difference of means lies inside (-margin, +margin).

    Both `H: difference <= -margin` and `H: difference >= +margin` must be rejected.

    Args:
        variant, baseline: final values by seed; shape (n,) each when paired.
        margin: half-width in the unit of the values, fixed before the data were seen.
        design: `pooled` assumes equal variances, `welch` does not.

    Raises:
        ValueError: a margin that is not positive, or samples that the t test refuses.

    Source: Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15 (1987) 657-680.
    Difference: where nothing varies p is 1, not 0.
    """
    if not (margin > 0.0 and math.isfinite(margin)):
        raise ValueError(f"margin ({margin}) must be positive and finite")
    if design == "paired":
        x, y = paired_samples(variant, baseline)
        constant = is_constant(x - y, scale=float(max(np.abs(x).max(), np.abs(y).max())))
    else:
        x, y = sample(variant, name="variant"), sample(baseline, name="baseline")
        constant = is_constant(x) and is_constant(y)
    if constant:
        above = below = 1.0
    elif design == "paired":
        above = as_float(stats.ttest_rel(x + margin, y, alternative="greater").pvalue)
        below = as_float(stats.ttest_rel(x - margin, y, alternative="less").pvalue)
    else:
        pooled = design == "pooled"
        with one_side_may_be_constant():
            greater = stats.ttest_ind(x + margin, y, equal_var=pooled, alternative="greater")
            less = stats.ttest_ind(x - margin, y, equal_var=pooled, alternative="less")
        above, below = as_float(greater.pvalue), as_float(less.pvalue)
    return EquivalenceTest(
        margin=margin,
        p=max(above, below),
        p_above_minus_margin=above,
        p_below_plus_margin=below,
    )


def margin_loss(*, speedup_percent: float, steps: int, loss_slope_per_step: float) -> float:
    """The margin in loss that a speed-up is worth: `s / 100 * steps * |slope|`.

    A variant that reaches the baseline's final loss `s` percent of the steps earlier is ahead by
    about this much at equal steps.

    Args:
        speedup_percent: the smallest speed-up that matters in practice.
        steps: the length of the run.
        loss_slope_per_step: change of the validation loss per step near the end (negative).
    """
    if not speedup_percent > 0.0:
        raise ValueError(f"speedup_percent ({speedup_percent}) must be positive")
    if steps < 1:
        raise ValueError(f"steps ({steps}) must be at least 1")
    margin = speedup_percent / 100.0 * steps * abs(loss_slope_per_step)
    if not (margin > 0.0 and math.isfinite(margin)):
        raise ValueError(
            f"a slope of {loss_slope_per_step} loss per step gives no margin: "
            "state the margin in loss instead"
        )
    return margin


def slope_near_end(steps: ArrayLike, losses: ArrayLike, *, last_fraction: float) -> float:
    """The least-squares slope of loss per step over the last part of a run.

    Args:
        steps, losses: shape (m,), the evaluation points of one run (or of a mean over runs).
        last_fraction: the part of the steps to use.

    Raises:
        ValueError: fewer than two evaluation points lie in that part.
    """
    x = np.asarray(steps, dtype=np.float64)
    y = np.asarray(losses, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"steps {x.shape} and losses {y.shape} must be vectors of one length")
    used = x >= x.max() * (1.0 - last_fraction) if x.size else np.zeros(0, dtype=bool)
    if int(used.sum()) < 2 or np.ptp(x[used]) == 0.0:
        raise ValueError(
            f"only {int(used.sum())} evaluation(s) in the last {last_fraction:.0%} of the run: "
            "evaluate more often or state the margin in loss"
        )
    return as_float(stats.linregress(x[used], y[used]).slope)
