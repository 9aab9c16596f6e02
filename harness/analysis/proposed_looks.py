"""Looks for a plan: which to declare, what they cost in power, and what they save in seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from harness.analysis.calibration.fixed_seeds import p_values
from harness.analysis.interim import look_shares
from harness.analysis.power_curve import Rule
from harness.analysis.stats.arrays import MINIMUM_SEEDS, FloatArray
from harness.study.settings import AnalysisSettings

STUDIES = 20_000
"""Studies drawn: the standard error of a power of 0.8 is 0.003, of the mean seeds about 0.01."""

_SEED = 20_250_704
"""Any number, fixed, so that the same plan says the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookPlan:
    """Fixed looks against one look at the end, for one comparison.

    Args:
        nominal_p: of the looks, see `harness.analysis.interim`.
        difference_in_sigmas: the true difference at which `power` and `expected_seeds` hold: the
            one that a single look at the last number of seeds finds with `power_once`.
        expected_seeds: a side, on average, until the comparison is decided or over.
        expected_seeds_at_twice: the same where the true difference is twice as large.
    """

    looks: tuple[int, ...]
    nominal_p: tuple[float, ...]
    difference_in_sigmas: float
    power_once: float
    power: float
    expected_seeds: float
    expected_seeds_at_twice: float


def propose_looks(seeds: int) -> tuple[int, ...]:
    """Three looks, at 40 %, 70 % and all of the seeds; fewer where so many are not distinct.

    >>> propose_looks(10), propose_looks(5), propose_looks(3)
    ((4, 7, 10), (3, 4, 5), (3,))
    """
    shares = (-(-4 * seeds // 10), -(-7 * seeds // 10), seeds)
    return tuple(sorted({max(MINIMUM_SEEDS, share) for share in shares}))


def judge_looks(
    looks: Sequence[int], rule: Rule, settings: AnalysisSettings, *, studies: int = STUDIES
) -> LookPlan:
    """Draws studies that truly differ by what the last look alone would detect, and counts.

    Args:
        looks: ascending numbers of seeds.
    """
    looks = tuple(looks)
    shares = look_shares(settings.model_copy(update={"looks": looks}), comparisons=rule.comparisons)
    difference = rule.detectable(looks[-1])
    power, seeds = _play(looks, shares, rule, difference, studies)
    _, seeds_at_twice = _play(looks, shares, rule, 2.0 * difference, studies)
    return LookPlan(
        looks=looks,
        nominal_p=shares,
        difference_in_sigmas=difference,
        power_once=rule.power,
        power=power,
        expected_seeds=seeds,
        expected_seeds_at_twice=seeds_at_twice,
    )


def _play(
    looks: tuple[int, ...], shares: tuple[float, ...], rule: Rule, difference: float, studies: int
) -> tuple[float, float]:
    """The share of studies that find the difference, and the mean number of seeds they take."""
    rng = np.random.default_rng(_SEED)
    runs = rng.standard_normal((studies, 2, looks[-1]))
    runs[:, 0] += difference
    p = np.stack([_p(runs[:, 0, :n], runs[:, 1, :n], rule) for n in looks], axis=1)
    crossed = p < np.asarray(shares)
    found = crossed.any(axis=1)
    ended = np.where(found, crossed.argmax(axis=1), len(looks) - 1)
    return float(found.mean()), float(np.asarray(looks)[ended].mean())


def _p(own: FloatArray, base: FloatArray, rule: Rule) -> FloatArray:
    """Two-sided, of many studies at once: (studies, n) on each side, in sigmas."""
    if not rule.known_noise:
        return p_values(own, base, design=rule.design)
    z = (own.mean(axis=1) - base.mean(axis=1)) / math.sqrt(2.0 / own.shape[1])
    return np.asarray(2.0 * stats.norm.sf(np.abs(z)))
