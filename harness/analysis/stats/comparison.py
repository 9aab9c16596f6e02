"""One variant against the baseline: which test, and everything that it says by itself."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.analysis.stats.arrays import MINIMUM_SEEDS, FloatArray
from harness.analysis.stats.effects import EffectSizes, a12, d_z, hedges_g_av
from harness.analysis.stats.mean_tests import MeanTest, known_noise_z, paired_t, welch_t
from harness.analysis.stats.outcomes import RunEnd, rank_test, risk_p
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
    can take with so many seeds. `divergence_p` compares the risks of divergence (Boschloo).
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
    notes: tuple[str, ...]


def compare_runs(
    variant: Sequence[RunEnd],
    baseline: Sequence[RunEnd],
    *,
    paired: bool,
    sigma: float | None = None,
    rng: np.random.Generator | None = None,
) -> RunComparison:
    """A test of means where every run has a final value, else of ranks and of risks.

    Means: paired t or Welch, or z where sigma was stated. Otherwise two questions are asked, which
    side ranks better with diverged runs last, and whether the risks of divergence differ; the
    smaller p counts, doubled because there were two.

    Args:
        variant, baseline: one end a seed; when paired, entry i of both from the same seed.
        sigma: standard deviation of one run over seeds, stated before the runs; None: estimated.
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
        return _by_means(x, y, paired=paired, sigma=sigma, minimum=minimum, rng=rng)
    return _by_ranks(variant, baseline, paired=paired, minimum=minimum, rng=rng)


def _by_means(
    x: FloatArray,
    y: FloatArray,
    *,
    paired: bool,
    sigma: float | None,
    minimum: float,
    rng: np.random.Generator | None,
) -> RunComparison:
    if sigma is not None:
        mean_test = known_noise_z(x, y, sigma=sigma)
    else:
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
    risk = risk_p(x, y)
    # A run without a result might have diverged or not: then the risks are not compared.
    known = all(run.value is not None or run.diverged for run in [*variant, *baseline])
    by_risk = known and risk < ranked.p
    more = sum(x) / len(x) - sum(y) / len(y)
    why = "not every run has a final value, so ranks are compared, not the mean of the survivors"
    return RunComparison(
        test="risk of divergence (Boschloo)" if by_risk else ranked.test,
        n=ranked.n,
        direction=more if by_risk else float(ranked.direction),
        p=min(1.0, 2.0 * min(risk, ranked.p)) if known else ranked.p,
        exact_p=ranked.p,
        minimum_exact_p=minimum,
        divergence_p=risk,
        effects=EffectSizes(d_z=None, hedges_g_av=None, a12=ranked.a12),
        mean_test=None,
        notes=tuple(
            note
            for note in (
                why,
                "ranks and risks of divergence were both tested, so the smaller p is doubled"
                if known
                else None,
                ranked.note,
            )
            if note is not None
        ),
    )
