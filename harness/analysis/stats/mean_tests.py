"""Tests of a difference of means, and of one mean against a target.

The sign convention everywhere: difference = variant - baseline, in the unit of the values.
"""

from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from harness.analysis.stats.arrays import (
    FloatArray,
    as_float,
    is_constant,
    paired_samples,
    sample,
)
from harness.analysis.stats.intervals import Interval, t_interval
from harness.analysis.stats.permutation import sign_flip_p

Alternative = Literal["two-sided", "less", "greater"]

NO_NOISE = (
    "every seed of a side gave the same value on both sides: this is one measurement repeated, "
    "not evidence, so p is set to 1 (does the seed reach the run?)"
)
CONSTANT_DIFFERENCE = (
    "the difference is the same for every seed, so t is undefined: "
    "the p is that of the exact sign-flip test"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanTest:
    """A difference (or a mean minus its target) with its test.

    `standard_error`, `degrees_of_freedom` and `statistic` are None where the t statistic is
    undefined because nothing varied; `note` then says what was done instead. A test with a noise
    that is known beforehand has infinitely many degrees of freedom.
    """

    test: str
    n: int
    estimate: float
    p: float
    standard_error: float | None = None
    degrees_of_freedom: float | None = None
    statistic: float | None = None
    note: str | None = None

    def interval(self, *, level: float = 0.95) -> Interval | None:
        """The interval that belongs to this test; None where no noise was observed."""
        if self.standard_error is None or self.degrees_of_freedom is None:
            return None
        return t_interval(
            self.estimate,
            standard_error=self.standard_error,
            degrees_of_freedom=self.degrees_of_freedom,
            level=level,
        )

    def p_below(self, value: float) -> float:
        """The one-sided p of the claim that the true value lies below `value`; 1 without noise."""
        return self._tail(value - self.estimate)

    def p_above(self, value: float) -> float:
        """The one-sided p of the claim that the true value lies above `value`; 1 without noise."""
        return self._tail(self.estimate - value)

    def _tail(self, distance: float) -> float:
        if self.standard_error is None or self.degrees_of_freedom is None:
            return 1.0
        return as_float(stats.t.sf(distance / self.standard_error, self.degrees_of_freedom))


class _TResult(Protocol):
    @property
    def statistic(self) -> object: ...
    @property
    def pvalue(self) -> object: ...


def paired_t(variant: ArrayLike, baseline: ArrayLike) -> MeanTest:
    """Whether the mean of `d = variant - baseline` is zero: `t = mean(d) sqrt(n) / sd(d)`.

    Args:
        variant, baseline: shape (n,), entry i of both from seed i.

    Raises:
        ValueError: fewer than 3 seeds, unequal lengths, values that are not finite.

    Source: `scipy.stats.ttest_rel`. Difference: where `d` does not vary the p is never 0 (see
    `NO_NOISE` and `CONSTANT_DIFFERENCE`).
    """
    x, y = paired_samples(variant, baseline)
    d = x - y
    result = MeanTest(test="paired t", n=d.size, estimate=float(d.mean()), p=1.0)
    scale = float(max(np.abs(x).max(), np.abs(y).max()))
    if is_constant(d, scale=scale):
        if is_constant(x) and is_constant(y):
            return replace(result, note=NO_NOISE)
        return replace(result, p=sign_flip_p(d), note=CONSTANT_DIFFERENCE)
    return _with_t(
        result,
        stats.ttest_rel(x, y),
        standard_error=float(d.std(ddof=1) / np.sqrt(d.size)),
        degrees_of_freedom=d.size - 1,
    )


def welch_t(variant: ArrayLike, baseline: ArrayLike) -> MeanTest:
    """Whether two independent means are equal, without assuming equal variances.

    `t = (mean(x) - mean(y)) / sqrt(s_x^2/n_x + s_y^2/n_y)` with `min(n_x, n_y) - 1` degrees of
    freedom. `n` is the smaller of the two.

    Source: Welch's statistic with the degrees of freedom of Hsu, Statistical Research Memoirs 2
    (1938) 1-24, which never err more often than alpha (Mickey and Brown, Annals of Mathematical
    Statistics 37 (1966) 639-642). Difference from `scipy.stats.ttest_ind(equal_var=False)`: the
    estimated degrees of freedom of Welch and Satterthwaite err where many variants share alpha and
    one side is quieter: .12 for .05 with 18 variants and 3 seeds, .07 with 5 (by simulation, noise
    1:10 and 1:3). Never p = 0 where nothing varies.
    """
    x, y = sample(variant, name="variant"), sample(baseline, name="baseline")
    n = min(x.size, y.size)
    result = MeanTest(test="Welch t", n=n, estimate=float(x.mean() - y.mean()), p=1.0)
    if is_constant(x) and is_constant(y):
        return replace(result, note=NO_NOISE)
    standard_error = float(np.sqrt(x.var(ddof=1) / x.size + y.var(ddof=1) / y.size))
    t = result.estimate / standard_error
    return replace(
        result,
        p=2.0 * as_float(stats.t.sf(abs(t), n - 1)),
        statistic=t,
        standard_error=standard_error,
        degrees_of_freedom=float(n - 1),
    )


def known_noise_z(variant: ArrayLike, baseline: ArrayLike, *, sigma: float) -> MeanTest:
    """Whether two means are equal, with the noise of one run known from earlier runs.

    `z = (mean(x) - mean(y)) / (sigma sqrt(1/n_x + 1/n_y))`, normal. What pairing would gain is not
    claimed: the correlation of a pair is not among what was stated. The note warns where the
    sample's own noise contradicts sigma.

    Args:
        variant, baseline: shapes (n_x,) and (n_y,).
        sigma: standard deviation of one run over seeds, stated before the runs.
    """
    if not (sigma > 0.0 and np.isfinite(sigma)):
        raise ValueError(f"sigma ({sigma}) must be positive and finite")
    x, y = sample(variant, name="variant"), sample(baseline, name="baseline")
    standard_error = sigma * float(np.sqrt(1.0 / x.size + 1.0 / y.size))
    estimate = float(x.mean() - y.mean())
    z = estimate / standard_error
    return MeanTest(
        test="z, noise stated beforehand",
        n=min(x.size, y.size),
        estimate=estimate,
        p=2.0 * as_float(stats.norm.sf(abs(z))),
        standard_error=standard_error,
        degrees_of_freedom=float("inf"),
        statistic=z,
        note=_contradiction(x, y, sigma),
    )


CONTRADICTED = 0.01
"""A sample this unlikely under the stated sigma is named: 1 comparison in 100 by chance."""


def _contradiction(x: FloatArray, y: FloatArray, sigma: float) -> str | None:
    """The chi-squared test of the pooled sample variance against sigma, two-sided."""
    freedom = x.size + y.size - 2
    pooled = float(x.var(ddof=1) * (x.size - 1) + y.var(ddof=1) * (y.size - 1)) / freedom
    tails = stats.chi2.cdf(pooled / sigma**2 * freedom, freedom)
    if 2.0 * min(as_float(tails), 1.0 - as_float(tails)) >= CONTRADICTED:
        return None
    side = "larger" if pooled > sigma**2 else "smaller"
    return (
        f"the stated sigma ({sigma:.3g}) is contradicted: the runs vary by {pooled**0.5:.3g}, "
        f"{side} than it allows, and the interval is "
        + ("too narrow" if side == "larger" else "wider than it need be")
    )


def one_sample_t(
    values: ArrayLike, *, target: float, alternative: Alternative = "less"
) -> MeanTest:
    """Whether the mean is below (or above, or off) a target fixed in advance.

    `estimate` is `mean - target`. Source: `scipy.stats.ttest_1samp`.

    Where all values agree the t statistic is undefined; the p is then 1, because a value repeated
    n times is one measurement.
    """
    x = sample(values, name="values")
    result = MeanTest(test="one-sample t", n=x.size, estimate=float(x.mean() - target), p=1.0)
    if is_constant(x):
        return replace(result, note=NO_NOISE)
    return _with_t(
        result,
        stats.ttest_1samp(x, target, alternative=alternative),
        standard_error=float(x.std(ddof=1) / np.sqrt(x.size)),
        degrees_of_freedom=x.size - 1,
    )


def _with_t(
    result: MeanTest, scipy: _TResult, *, standard_error: float, degrees_of_freedom: float
) -> MeanTest:
    return replace(
        result,
        p=as_float(scipy.pvalue),
        statistic=as_float(scipy.statistic),
        standard_error=standard_error,
        degrees_of_freedom=float(degrees_of_freedom),
    )
