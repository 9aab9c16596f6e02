"""One variant against the baseline: which test, and everything that it says before Holm."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.analysis.stats.arrays import MINIMUM_SEEDS, FloatArray
from harness.analysis.stats.effects import EffectSizes, a12, d_z, hedges_g_av
from harness.analysis.stats.equivalence import EquivalenceTest, tost
from harness.analysis.stats.mean_tests import MeanTest, paired_t, welch_t
from harness.analysis.stats.outcomes import RunEnd, fisher_p, mcnemar_p, rank_test
from harness.analysis.stats.permutation import (
    minimum_permutation_p,
    minimum_sign_flip_p,
    permutation_p,
    sign_flip_p,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunComparison:
    """`mean_test` is None where a run has no final value: then `p` is that of the ranks.

    `exact_p` is the check that assumes no distribution, `minimum_exact_p` the smallest value it
    can take with so many seeds. `divergence_p` compares the rates (McNemar, or Fisher unpaired).
    """

    test: str
    n: int
    direction: float
    p: float
    exact_p: float
    minimum_exact_p: float
    divergence_p: float
    effects: EffectSizes
    mean_test: MeanTest | None
    equivalence: EquivalenceTest | None
    notes: tuple[str, ...]


def compare_runs(
    variant: Sequence[RunEnd],
    baseline: Sequence[RunEnd],
    *,
    paired: bool,
    margin: float | None = None,
    rng: np.random.Generator | None = None,
) -> RunComparison:
    """Paired t or Welch where every run has a final value, else ranks with diverged last.

    Args:
        variant, baseline: one end a seed; when paired, entry i of both from the same seed.
        margin: half-width of equivalence in the unit of the values; None for no such test.
        rng: draws the arrangements of exact tests too large to enumerate.

    Raises:
        ValueError: fewer than 3 seeds on a side, or unequal numbers when paired.
    """
    smallest = min(len(variant), len(baseline))
    if smallest < MINIMUM_SEEDS:
        raise ValueError(f"{smallest} seed(s), at least {MINIMUM_SEEDS} are needed: run more seeds")
    if paired and len(variant) != len(baseline):
        raise ValueError(f"{len(variant)} and {len(baseline)} seeds cannot be paired")
    minimum = (
        minimum_sign_flip_p(len(variant))
        if paired
        else minimum_permutation_p(len(variant), len(baseline))
    )
    ended = [run.value for run in variant if run.value is not None]
    reference = [run.value for run in baseline if run.value is not None]
    if len(ended) == len(variant) and len(reference) == len(baseline):
        x, y = np.asarray(ended, dtype=np.float64), np.asarray(reference, dtype=np.float64)
        return _by_means(x, y, paired=paired, margin=margin, minimum=minimum, rng=rng)
    return _by_ranks(variant, baseline, paired=paired, minimum=minimum, rng=rng)


def _by_means(
    x: FloatArray,
    y: FloatArray,
    *,
    paired: bool,
    margin: float | None,
    minimum: float,
    rng: np.random.Generator | None,
) -> RunComparison:
    mean_test = paired_t(x, y) if paired else welch_t(x, y)
    if mean_test.standard_error is None:
        exact_p = mean_test.p  # nothing varied: an exact test has no more to go by
    else:
        exact_p = sign_flip_p(x - y, rng=rng) if paired else permutation_p(x, y, rng=rng)
    return RunComparison(
        test=mean_test.test,
        n=mean_test.n,
        direction=mean_test.estimate,
        p=mean_test.p,
        exact_p=exact_p,
        minimum_exact_p=minimum,
        divergence_p=1.0,
        effects=EffectSizes(
            d_z=d_z(x, y) if paired else None,
            hedges_g_av=hedges_g_av(x, y, paired=paired),
            a12=a12(x, y),
        ),
        mean_test=mean_test,
        equivalence=None
        if margin is None
        else tost(x, y, margin=margin, design="paired" if paired else "welch"),
        notes=() if mean_test.note is None else (mean_test.note,),
    )


def _by_ranks(
    variant: Sequence[RunEnd],
    baseline: Sequence[RunEnd],
    *,
    paired: bool,
    minimum: float,
    rng: np.random.Generator | None,
) -> RunComparison:
    ranked = rank_test(variant, baseline, paired=paired, rng=rng)
    x, y = [run.diverged for run in variant], [run.diverged for run in baseline]
    why = "not every run has a final value, so ranks are compared, not the mean of the survivors"
    return RunComparison(
        test=ranked.test,
        n=ranked.n,
        direction=float(ranked.direction),
        p=ranked.p,
        exact_p=ranked.p,
        minimum_exact_p=minimum,
        divergence_p=mcnemar_p(x, y) if paired else fisher_p(x, y),
        effects=EffectSizes(d_z=None, hedges_g_av=None, a12=ranked.a12),
        mean_test=None,
        equivalence=None,
        notes=(why,) if ranked.note is None else (why, ranked.note),
    )
