"""A bootstrap over seeds that keeps every task: the strata of a suite.

Each resample draws, within each task, as many seeds as there are, with replacement. What is paired
by seed is drawn together for all contestants. Tasks are not drawn: the intervals are about these
tasks, and a new task may differ from all of them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from harness.analysis.stats.arrays import FloatArray, as_float, check_level
from harness.analysis.stats.intervals import Interval

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratum:
    """The runs of one task, by contestant: vectors of shape (seeds,).

    Args:
        losses: final losses; infinity for a run that has none.
        costs: to the target; infinity for a run that never arrived. None: there are no costs.
        paired: whether entry j is of the same seed for all contestants, who then have equally many.
    """

    losses: Mapping[str, FloatArray]
    costs: Mapping[str, FloatArray] | None
    paired: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """The same with a first axis of resamples: vectors become (resamples, seeds).

    `seeds` are the seeds that were drawn for all contestants alike; None without pairs.
    """

    losses: Mapping[str, FloatArray]
    costs: Mapping[str, FloatArray] | None
    paired: bool
    seeds: IntArray | None


def observed(stratum: Stratum) -> Drawn:
    """The runs as they are, as the one resample."""
    size = len(next(iter(stratum.losses.values())))
    return Drawn(
        losses={name: values[None] for name, values in stratum.losses.items()},
        costs=None
        if stratum.costs is None
        else {name: values[None] for name, values in stratum.costs.items()},
        paired=stratum.paired,
        seeds=np.arange(size)[None] if stratum.paired else None,
    )


def resample(stratum: Stratum, rng: np.random.Generator, *, resamples: int) -> Drawn:
    """Draws the seeds of one task; loss and cost of a run stay together.

    `scipy.stats.bootstrap` with one sample a task draws the same way; here the draw is shared by
    all statistics and contestants.
    """
    names = list(stratum.losses)
    sizes = {name: stratum.losses[name].size for name in names}
    shared: IntArray | None = None
    if stratum.paired:
        if len(set(sizes.values())) > 1:
            raise ValueError(f"paired contestants have different numbers of seeds: {sizes}")
        shared = rng.integers(0, sizes[names[0]], size=(resamples, sizes[names[0]]))
        picked = dict.fromkeys(names, shared)
    else:
        picked = {n: rng.integers(0, sizes[n], size=(resamples, sizes[n])) for n in names}
    return Drawn(
        losses={name: stratum.losses[name][picked[name]] for name in names},
        costs=None
        if stratum.costs is None
        else {name: stratum.costs[name][picked[name]] for name in names},
        paired=stratum.paired,
        seeds=shared,
    )


def expanded_interval(
    distribution: FloatArray, *, level: float, seeds: tuple[int, ...]
) -> Interval | None:
    """The percentile interval of a stratified bootstrap, widened for few seeds.

    The percentile interval is too narrow by `sqrt((n - 1) / n)` and takes the normal distribution
    for Student's t. So the quantile `Phi(-sqrt(n / (n - 1)) t)` is read in the place of
    `(1 - level) / 2`, where t is that of Student's distribution with `sum (n - 1)` degrees of
    freedom, and n the harmonic mean of the strata's seeds. With one task of n seeds and their mean
    as the statistic that is the t interval, but for skewness.

    Args:
        distribution: shape (resamples,); infinite values are allowed.
        seeds: of each stratum.

    Returns:
        None where nothing varied or a stratum has one seed. Ends may be infinite.

    Source: Hesterberg, The American Statistician 69 (2015) 371-386, section 5.3 ("expanded
    percentile"), for one sample. Difference: strata.
    """
    check_level(level, name="level")
    if min(seeds) < 2 or (distribution == distribution[0]).all():
        return None
    n = len(seeds) / sum(1.0 / size for size in seeds)
    t = as_float(stats.t.isf((1.0 - level) / 2.0, sum(seeds) - len(seeds)))
    tail = as_float(stats.norm.sf(math.sqrt(n / (n - 1.0)) * t))
    # Values that were drawn, not ones between: there is none between a number and infinity.
    low = float(np.quantile(distribution, tail, method="lower"))
    high = float(np.quantile(distribution, 1.0 - tail, method="higher"))
    return Interval(low=low, high=high, level=level)
