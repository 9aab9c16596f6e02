"""Studies that add seeds: at declared looks, after every seed, or because of the result."""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import special

from harness.analysis.calibration.cells import Cell, Noise, cell, chunks
from harness.analysis.calibration.fixed_seeds import SAME, p_values
from harness.analysis.stats.arrays import MINIMUM_SEEDS
from harness.analysis.stats.power import Pairs, detectable_difference
from harness.analysis.stats.sequential import LookBounds


def looking_error(
    rng: np.random.Generator,
    *,
    noise: Noise,
    last: int,
    studies: int,
    design: Pairs,
    alpha: float,
) -> Cell:
    """A/A studies that stop at the first p < alpha, looking after every seed from 3 to `last`."""
    false = 0
    for size in chunks(studies):
        runs = noise(rng, (size, 2, last))
        p = [
            p_values(runs[:, 1, :n], runs[:, 0, :n], design=design)
            for n in range(MINIMUM_SEEDS, last + 1)
        ]
        false += int((np.stack(p, axis=1) < alpha).any(axis=1).sum())
    return cell(
        "looking after every seed", design, 1, f"{MINIMUM_SEEDS}..{last}",
        false, studies, alpha, promised=False,
    )  # fmt: skip


def sequential_errors(
    rng: np.random.Generator,
    *,
    noise: Noise,
    design: Pairs,
    bounds: LookBounds,
    normal_nominal_p: Sequence[float],
    studies: int,
) -> Iterator[Cell]:
    """A/A studies that add seeds at fixed looks: with bounds for normal statistics, and with ours.

    The noise is drawn run by run, not as the sums that the calibration of the bounds draws.
    """
    looks = bounds.looks
    normal = calibrated = 0
    for size in chunks(studies):
        runs = noise(rng, (size, 2, looks[-1]))
        p = np.stack(
            [p_values(runs[:, 1, :n], runs[:, 0, :n], design=design) for n in looks], axis=1
        )
        normal += int((p < np.asarray(normal_nominal_p)).any(axis=1).sum())
        calibrated += int((p < np.asarray(bounds.nominal_p)).any(axis=1).sum())
    plan = (design, 1, ", ".join(map(str, looks)))
    yield cell("looks, bounds for normal z", *plan, normal, studies, bounds.alpha, promised=False)
    yield cell("looks, calibrated bounds", *plan, calibrated, studies, bounds.alpha, at_most=True)


def target_error(
    rng: np.random.Generator,
    *,
    noise: Noise,
    looks: Sequence[int],
    shares: Sequence[float],
    variants: int,
    studies: int,
    alpha: float,
) -> Cell:
    """Every variant's mean is exactly the target: how often is any called below, at any look?

    Args:
        shares: one-sided error of one variant at each look.
    """
    false = 0
    for size in chunks(studies):
        runs = noise(rng, (size, variants, looks[-1]))
        below = np.zeros((size, variants), dtype=bool)
        for look, share in zip(looks, shares, strict=True):
            seen = runs[:, :, :look]
            spread = seen.std(axis=2, ddof=1)
            # Runs that repeat one number are no evidence, as in `one_sample_t`.
            known = spread > SAME
            t = seen.mean(axis=2) * np.sqrt(look) / np.where(known, spread, 1.0)
            below |= known & (special.stdtr(look - 1, t) < share)
        false += int(below.any(axis=1).sum())
    plan = ", ".join(map(str, looks))
    return cell(
        "targets under looks" if variants > 1 else "a target under looks",
        "one sample",
        variants,
        plan,
        false,
        studies,
        alpha,
        at_most=True,
    )


def added_seeds_error(
    rng: np.random.Generator,
    *,
    noise: Noise,
    first: int,
    most: int,
    studies: int,
    alpha: float,
    fresh: bool,
) -> Cell:
    """A/A studies that are inconclusive and then get the number of seeds that was advised.

    Args:
        first: seeds before the advice.
        most: seeds above which nobody follows the advice.
        fresh: whether the advised seeds are a study of their own; False: they are added to those
            whose result led to the advice, without a look that was declared before.
    """
    sizes = np.arange(first + 1, most + 1)
    # The smallest difference, in standard deviations of the pairs, that so many seeds find.
    found_by = np.array([detectable_difference(sd=1.0, seeds=int(n), alpha=alpha) for n in sizes])
    false = 0
    for size in chunks(studies):
        runs = noise(rng, (size, 2, first + most))
        d = runs[:, 1] - runs[:, 0]
        p = p_values(runs[:, 1, :first], runs[:, 0, :first], design="paired")
        seen = d[:, :first]
        effect = np.abs(seen.mean(axis=1)) / np.maximum(seen.std(axis=1, ddof=1), SAME)
        # found_by falls with the number of seeds: the first one that is small enough.
        place = np.searchsorted(-found_by, -effect)
        verdicts = np.zeros(size, dtype=bool) if fresh else p < alpha
        for index, n in enumerate(sizes):
            chosen = (p >= alpha) & (place == index)
            begin = first if fresh else 0
            some = runs[chosen][:, :, begin : begin + int(n)]
            if len(some):
                again = p_values(some[:, 1], some[:, 0], design="paired")
                verdicts[chosen] = again < alpha
        false += int(verdicts.sum())
    what = "advised seeds in a fresh study" if fresh else "advised seeds added, no look declared"
    return cell(
        what, "paired", 1, f"{first}..{most}", false, studies, alpha, at_most=True, promised=fresh
    )
