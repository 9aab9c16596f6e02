"""Effect sizes: how large a difference is, next to how sure."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from harness.analysis.stats.arrays import as_float, is_constant, paired_samples, sample


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectSizes:
    """None where it is undefined: not paired, nothing varied, or a run without a final value."""

    d_z: float | None
    hedges_g_av: float | None
    a12: float | None


def d_z(variant: ArrayLike, baseline: ArrayLike) -> float | None:
    """Cohen's d_z = `mean(d) / sd(d)` of the paired differences; None where `d` does not vary.

    It is t / sqrt(n): the noise is that of the pairs, so it grows as pairing gets better.
    """
    x, y = paired_samples(variant, baseline)
    d = x - y
    if is_constant(d, scale=float(max(np.abs(x).max(), np.abs(y).max()))):
        return None
    return float(d.mean() / d.std(ddof=1))


def hedges_correction(degrees_of_freedom: float) -> float:
    """`J = Gamma(v/2) / (sqrt(v/2) Gamma((v-1)/2))`, the exact small-sample correction.

    Source: Hedges, Journal of Educational Statistics 6 (1981) 107-128. The usual `1 - 3/(4v - 1)`
    is its approximation.
    """
    v = degrees_of_freedom
    if v <= 1:
        raise ValueError(f"degrees_of_freedom ({v}) must be above 1")
    return math.exp(math.lgamma(v / 2) - math.lgamma((v - 1) / 2)) / math.sqrt(v / 2)


def hedges_g_av(variant: ArrayLike, baseline: ArrayLike, *, paired: bool) -> float | None:
    """`J (mean(x) - mean(y)) / sqrt((s_x^2 + s_y^2) / 2)`; None where neither side varies.

    The unit is the standard deviation of one run, so paired and unpaired studies can be compared.
    `J` has v = n - 1 degrees of freedom when paired and n_x + n_y - 2 otherwise.

    Source: Lakens, Frontiers in Psychology 4 (2013) 863, with the exact J.
    """
    if paired:
        x, y = paired_samples(variant, baseline)
        degrees_of_freedom = x.size - 1
    else:
        x, y = sample(variant, name="variant"), sample(baseline, name="baseline")
        degrees_of_freedom = x.size + y.size - 2
    if is_constant(x) and is_constant(y):
        return None
    average_sd = math.sqrt((float(x.var(ddof=1)) + float(y.var(ddof=1))) / 2.0)
    return hedges_correction(degrees_of_freedom) * float(x.mean() - y.mean()) / average_sd


def a12(variant: ArrayLike, baseline: ArrayLike) -> float:
    """`P(variant < baseline) + P(equal) / 2`: how often a variant's run has the lower loss.

    0.5 means no difference, 1 that every run of the variant beats every run of the baseline. It
    needs order only, so diverged runs may enter as the worst ranks.

    Source: Vargha and Delaney, Journal of Educational and Behavioral Statistics 25 (2000) 101-132;
    the Mann-Whitney U over n_x n_y. Difference: lower is better here.
    """
    x, y = np.asarray(variant, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    if x.size == 0 or y.size == 0:
        raise ValueError("a12 needs at least one run on each side")
    # The asymptotic p is not used; it only keeps SciPy from enumerating for the exact one.
    u_baseline = stats.mannwhitneyu(y, x, method="asymptotic").statistic
    return as_float(u_baseline) / (x.size * y.size)
