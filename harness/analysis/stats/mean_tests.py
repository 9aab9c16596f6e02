"""Tests of a difference of means, and of one mean against a target.

The sign convention everywhere: difference = variant - baseline, in the unit of the values.
"""

from dataclasses import dataclass, replace
from typing import Literal, Protocol

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
    undefined because nothing varied; `note` then says what was done instead.
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
        """The t interval that belongs to this test; None where no noise was observed."""
        if self.standard_error is None or self.degrees_of_freedom is None:
            return None
        return t_interval(
            self.estimate,
            standard_error=self.standard_error,
            degrees_of_freedom=self.degrees_of_freedom,
            level=level,
        )


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

    `t = (mean(x) - mean(y)) / sqrt(s_x^2/n_x + s_y^2/n_y)` with Welch-Satterthwaite degrees of
    freedom. `n` is the smaller of the two.

    Source: `scipy.stats.ttest_ind(equal_var=False)`. Difference: never p = 0 where nothing varies.
    """
    x, y = sample(variant, name="variant"), sample(baseline, name="baseline")
    result = MeanTest(
        test="Welch t", n=min(x.size, y.size), estimate=float(x.mean() - y.mean()), p=1.0
    )
    if is_constant(x) and is_constant(y):
        return replace(result, note=NO_NOISE)
    with one_side_may_be_constant():
        welch = stats.ttest_ind(x, y, equal_var=False)
    standard_error = float(np.sqrt(x.var(ddof=1) / x.size + y.var(ddof=1) / y.size))
    return _with_t(
        result, welch, standard_error=standard_error, degrees_of_freedom=as_float(welch.df)
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
