"""Divergence as an outcome: rates, and ranks in which a diverged run comes last.

A mean over the surviving seeds compares different seeds and flatters the fragile optimizer. So as
soon as one run of a comparison has no final value, ranks take the place of means.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from harness.analysis.stats.arrays import FloatArray, as_float
from harness.analysis.stats.effects import a12
from harness.analysis.stats.permutation import permutation_p, sign_flip_p

Unknown = Literal["best", "worst"]


class RunEnd(Protocol):
    """How one run ended, as these tests see it.

    `value` is the final loss of a completed run. Without one, `diverged` tells a run whose
    optimizer failed it (a result: the worst) from one that was stopped, crashed or ran out of
    memory (no result: it could have been anything).
    """

    @property
    def value(self) -> float | None: ...
    @property
    def diverged(self) -> bool: ...
    @property
    def diverged_at_step(self) -> int | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RankTest:
    """`direction` is -1 where the variant ranks better (lower), +1 worse, 0 undecided."""

    test: str
    n: int
    direction: int
    p: float
    a12: float
    note: str | None


MOST_RUNS = 200
"""On a side, for Boschloo's test: 1,000 would take half a minute."""


def risk_p(variant_diverged: ArrayLike, baseline_diverged: ArrayLike) -> float:
    """The two-sided p of Boschloo's exact test: is the risk of divergence the same on both sides?

    It takes the two sides as independent. Where the runs of a seed tend to diverge together it errs
    on the safe side, so it serves pairs too; the test made for pairs (McNemar) cannot reach 0.05
    with five of them, not even at 5 of 5 against 0 of 5.

    Args:
        variant_diverged, baseline_diverged: booleans, shapes (n_x,) and (n_y,).

    Source: Boschloo, Statistica Neerlandica 24 (1970) 1-35; `scipy.stats.boschloo_exact`. With more
    than `MOST_RUNS` it is Fisher's, as exact and less powerful, whose time does not grow with them.
    """
    x = np.asarray(variant_diverged, dtype=bool)
    y = np.asarray(baseline_diverged, dtype=bool)
    return _boschloo_p(int(x.sum()), x.size, int(y.sum()), y.size)


@lru_cache(maxsize=4096)
def _boschloo_p(lost: int, runs: int, other_lost: int, other_runs: int) -> float:
    if lost + other_lost in (0, runs + other_runs):
        return 1.0
    table = np.array([[lost, other_lost], [runs - lost, other_runs - other_lost]])
    if max(runs, other_runs) > MOST_RUNS:
        return as_float(stats.fisher_exact(table).pvalue)
    return min(1.0, as_float(stats.boschloo_exact(table).pvalue))


def outcome_ranks(
    variant: Sequence[RunEnd],
    baseline: Sequence[RunEnd],
    *,
    unknown_variant: Unknown = "worst",
    unknown_baseline: Unknown = "worst",
) -> tuple[FloatArray, FloatArray]:
    """Joint ranks of all runs, 1 the best: by loss, then diverged, the earliest divergence last.

    Runs without a result rank at the end that the caller names. Ties share their average rank;
    diverged runs all tie unless each of them recorded its step.
    """
    runs = [*variant, *baseline]
    timed = all(run.diverged_at_step is not None for run in runs if run.diverged)
    ends = [unknown_variant] * len(variant) + [unknown_baseline] * len(baseline)
    keys = [_key(run, unknown=end, timed=timed) for run, end in zip(runs, ends, strict=True)]
    place = {key: index for index, key in enumerate(sorted(set(keys)))}
    ranks = np.asarray(stats.rankdata([place[key] for key in keys]), dtype=np.float64)
    return ranks[: len(variant)], ranks[len(variant) :]


def _key(run: RunEnd, *, unknown: Unknown, timed: bool) -> tuple[int, float]:
    if run.diverged:
        return 1, -float(run.diverged_at_step or 0) if timed else 0.0
    if run.value is not None:
        return 0, float(run.value)
    return (-1, 0.0) if unknown == "best" else (2, 0.0)


def rank_test(
    variant: Sequence[RunEnd],
    baseline: Sequence[RunEnd],
    *,
    paired: bool,
    rng: np.random.Generator | None = None,
) -> RankTest:
    """Which side ranks better when diverged runs come last, by an exact permutation of the ranks.

    Paired: sign flips of the rank differences (swapping the two runs of a seed leaves the joint
    ranks in place, so the test is exact). Unpaired: relabelling, the exact Mann-Whitney test with
    ties. Runs without a result are put once at the end that is worst for the variant and once at
    the end that is best for it; the larger p is kept, and 1 if the directions disagree.

    Source: the pooled ranks of Conover and Iman, The American Statistician 35 (1981) 124-129;
    diverged last as in the analysis of deaths (Lachin, Controlled Clinical Trials 20 (1999) 408).
    """
    kind = "sign flips" if paired else "relabelling"
    against = _one_ranking(variant, baseline, "worst", "best", paired=paired, rng=rng)
    if any(run.value is None and not run.diverged for run in [*variant, *baseline]):
        favour = _one_ranking(variant, baseline, "best", "worst", paired=paired, rng=rng)
        agree = against[0] == favour[0]
        direction, p = (against[0], max(against[1], favour[1])) if agree else (0, 1.0)
        effect = min(against[2], favour[2], key=lambda value: abs(value - 0.5))
        note = "runs without a result were ranked best and worst in turn; the larger p counts"
    else:
        (direction, p, effect), note = against, None
    return RankTest(
        test=f"ranks, diverged last ({kind})",
        n=min(len(variant), len(baseline)),
        direction=direction,
        p=p,
        a12=effect,
        note=note,
    )


def _one_ranking(
    variant: Sequence[RunEnd],
    baseline: Sequence[RunEnd],
    unknown_variant: Unknown,
    unknown_baseline: Unknown,
    *,
    paired: bool,
    rng: np.random.Generator | None,
) -> tuple[int, float, float]:
    x, y = outcome_ranks(
        variant, baseline, unknown_variant=unknown_variant, unknown_baseline=unknown_baseline
    )
    p = sign_flip_p(x - y, rng=rng) if paired else permutation_p(x, y, rng=rng)
    return int(np.sign(x.mean() - y.mean())), p, a12(x, y)
