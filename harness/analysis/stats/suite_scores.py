"""Scores over tasks and seeds, each for all resamples of a bootstrap at once.

What is comparable over tasks? Not losses: a larger model, another text or tokenizer has another
level. Two things are: the difference to the baseline of the same task, in nats (a factor on
perplexity whatever the level, though a nat is dearer where the loss is lower), and the ratio of
costs to the same target, which has no unit at all. Ranks and the probability of improvement need
order only.

Every function takes the tasks as `Drawn` (first axis: resamples) and returns shape (resamples,).
Runs without a final value hold infinity; a result that they decide is infinite.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from harness.analysis.stats.arrays import FloatArray
from harness.analysis.stats.stratified import Drawn

PAIRS_AT_ONCE = 4_000_000
"""Comparisons of single runs that lie in memory at once."""


def differences(task: Drawn, variant: str, baseline: str) -> FloatArray:
    """Loss minus the baseline's, shape (resamples, seeds): seed by seed where runs are pairs.

    Without pairs, minus the baseline's mean loss, or its median where a run has no value. Two runs
    without a value are no difference: 0.
    """
    return _against(task.losses[variant], task.losses[baseline], paired=task.paired)


def log_speedups(task: Drawn, variant: str, baseline: str) -> FloatArray:
    """`log(cost of the baseline / cost of the variant)`, shape (resamples, seeds).

    As `differences`; minus infinity where the variant's run never arrived, 0 where neither did.
    """
    assert task.costs is not None, "log_speedups needs costs"
    own, base = np.log(task.costs[variant]), np.log(task.costs[baseline])
    return -_against(own, base, paired=task.paired)


def _against(own: FloatArray, base: FloatArray, *, paired: bool) -> FloatArray:
    reference = base if paired else _centre(base)[:, None]
    both_lost = np.isposinf(own) & np.isposinf(reference)
    return np.subtract(own, reference, out=np.zeros(both_lost.shape), where=~both_lost)


def _centre(values: FloatArray) -> FloatArray:
    """The mean of each row, or its median where a value is infinite."""
    mean = values.mean(axis=-1)
    return np.where(np.isfinite(mean), mean, np.median(values, axis=-1))


def pooled_interquartile_mean(parts: Sequence[FloatArray]) -> FloatArray:
    """The mean of the middle half of all runs of all tasks together, by resample.

    Args:
        parts: shapes (resamples, seeds of a task).

    Source: Agarwal et al., NeurIPS 2021 (rliable).
    """
    pooled = np.sort(np.concatenate(parts, axis=1), axis=1)
    # As scipy.stats.trim_mean cuts; that one would put infinities of both signs together.
    cut = pooled.shape[1] // 4
    middle = pooled[:, cut : pooled.shape[1] - cut]
    with np.errstate(invalid="ignore"):
        return np.asarray(middle.mean(axis=1))


def improvement(tasks: Sequence[Drawn], variant: str, baseline: str) -> FloatArray:
    """The chance that a run of the variant ends below one of the baseline, averaged over tasks.

    `mean over tasks of P(lower) + P(equal) / 2`, over all pairs of runs of a task; runs without a
    value are equal among each other and above all others.

    Source: Agarwal et al., NeurIPS 2021 (rliable). Difference: where a resample of pairs holds a
    seed twice, its runs meet more often than the 1 in n of the data, and runs of one seed share
    their luck; pairs of one seed keep the weight 1 / n.
    """
    return np.asarray(np.mean([_wins(task, variant, baseline) for task in tasks], axis=0))


def _wins(task: Drawn, variant: str, baseline: str) -> FloatArray:
    own, base = task.losses[variant], task.losses[baseline]
    at_once = max(1, PAIRS_AT_ONCE // (own.shape[1] * base.shape[1]))
    wins = np.empty(len(own))
    for start in range(0, len(own), at_once):
        rows = slice(start, start + at_once)
        x, y = own[rows, :, None], base[rows, None, :]
        won = (x < y) + 0.5 * (x == y)
        if task.seeds is None:
            wins[rows] = won.mean(axis=(1, 2))
            continue
        seeds = task.seeds[rows]
        same = seeds[:, :, None] == seeds[:, None, :]
        number = same.sum(axis=(1, 2))
        of_one = (won * same).sum(axis=(1, 2)) / number
        others = won[0].size - number
        of_two = np.divide(
            (won * ~same).sum(axis=(1, 2)), others, out=of_one.copy(), where=others > 0
        )
        wins[rows] = of_two + (of_one - of_two) / own.shape[1]
    return wins


def median_costs(tasks: Sequence[Drawn], variants: Sequence[str]) -> FloatArray:
    """The median cost over seeds, shape (resamples, contestants, tasks); infinite where half of the
    runs or more never arrived: the rule of AlgoPerf."""
    columns = []
    for task in tasks:
        assert task.costs is not None, "median_costs needs costs"
        columns.append([np.median(task.costs[name], axis=-1) for name in variants])
    return np.asarray(np.transpose(columns, (2, 1, 0)))


def order_values(tasks: Sequence[Drawn], variants: Sequence[str]) -> FloatArray:
    """What contestants are ranked by on each task, shape (resamples, contestants, tasks).

    The mean loss; a contestant that lost a run stands behind all that lost none, by its median.
    """
    columns = []
    for task in tasks:
        losses = [task.losses[name] for name in variants]
        known = np.concatenate([values[np.isfinite(values)] for values in losses])
        behind = 2.0 * float(np.ptp(known)) + 1.0 if known.size else 0.0
        columns.append(
            [
                np.where(np.isfinite(mean), mean, np.median(values, axis=-1) + behind)
                for values in losses
                for mean in [values.mean(axis=-1)]
            ]
        )
    return np.asarray(np.transpose(columns, (2, 1, 0)))


def mean_ranks(values: FloatArray) -> FloatArray:
    """Of `order_values`: the mean over tasks of the rank, shape (resamples, contestants)."""
    return np.asarray(stats.rankdata(values, axis=-2).mean(axis=-1))
