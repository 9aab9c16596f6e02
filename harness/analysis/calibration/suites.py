"""Suites whose truth is known: how often a verdict is false, and what the intervals cover."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from harness.analysis.stats.intervals import Interval
from harness.analysis.stats.performance_profiles import performance_ratios, profile_area
from harness.analysis.stats.stratified import Stratum
from harness.analysis.suite.leaderboard import Scored, score_tasks
from harness.study.suite_settings import SuiteSettings

LUCK, NOISE = 0.03, 0.01
"""Standard deviations in nats of what a seed adds to all contestants, and of a run's own noise."""

COST_NOISE = 0.05
"""Of the logarithm of a run's cost to the target."""

EFFECTS = {"baseline": 0.0, "same": 0.0, "better": -0.02}
SPEEDUPS = {"baseline": 1.0, "same": 1.0, "better": 1.4}


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteCalibration:
    """Shares over simulated suites.

    `false_suites`: suites with any false verdict where nobody differs; at most alpha is promised.
    `coverage` by score: intervals that hold the truth; `percentile_coverage`: what the same
    resamples would have covered without the widening for few seeds.
    """

    suites: int
    tasks: int
    seeds: int
    alpha: float
    false_suites: float
    coverage: dict[str, float]
    percentile_coverage: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def calibrate_suites(
    rng: np.random.Generator,
    *,
    suites: int = 1000,
    tasks: int = 5,
    seeds: int = 5,
    resamples: int = 1000,
    alpha: float = 0.05,
) -> SuiteCalibration:
    """Simulates suites of one baseline and two challengers, paired by seed.

    For the verdicts both challengers are the baseline's equals; for the coverage one of them is
    better (`EFFECTS` in nats, `SPEEDUPS`), alike on every task.
    """
    false = false_suites(rng, suites=suites, tasks=tasks, seeds=seeds, alpha=alpha)
    inside: dict[str, int] = {}
    inside_plain: dict[str, int] = {}
    for index in range(suites):
        settings = SuiteSettings(alpha=alpha, resamples=resamples, seed=index)
        strata = [_task(rng, EFFECTS, seeds) for _ in range(tasks)]
        scored = score_tasks(strata, list(EFFECTS), "baseline", settings)
        for (score, variant), truth in _truths(seeds).items():
            name = f"{score} of {variant}"
            estimate = scored.estimate(score, variant)
            assert estimate is not None, "no simulated run is lost"
            low = -math.inf if estimate.low is None else estimate.low
            high = math.inf if estimate.high is None else estimate.high
            inside[name] = inside.get(name, 0) + (low <= truth <= high)
            plain = truth in _percentile(scored, score, variant, alpha)
            inside_plain[name] = inside_plain.get(name, 0) + plain
    return SuiteCalibration(
        suites=suites,
        tasks=tasks,
        seeds=seeds,
        alpha=alpha,
        false_suites=false,
        coverage={name: count / suites for name, count in inside.items()},
        percentile_coverage={name: count / suites for name, count in inside_plain.items()},
    )


def false_suites(
    rng: np.random.Generator, *, suites: int, tasks: int, seeds: int, alpha: float = 0.05
) -> float:
    """The share of suites with any false verdict where nobody differs from the baseline.

    A verdict is given exactly where the paired t test's p is below alpha / tasks / challengers,
    the dual of its interval (`harness.analysis.stats.verdict`).
    """
    challengers = len(EFFECTS) - 1
    shape = (suites, tasks, challengers + 1, seeds)
    losses = NOISE * rng.normal(size=shape)  # what a seed adds to all cancels in the pairs
    p = np.asarray(stats.ttest_rel(losses[:, :, 1:], losses[:, :, :1], axis=-1).pvalue)
    return float((p < alpha / tasks / challengers).any(axis=(1, 2)).mean())


def _percentile(scored: Scored, score: str, variant: str, alpha: float) -> Interval:
    draws = scored.resampled[score][variant]
    low, high = np.quantile(draws, [alpha / 2.0, 1.0 - alpha / 2.0])
    return Interval(low=float(low), high=float(high), level=1.0 - alpha)


def _task(rng: np.random.Generator, effects: Mapping[str, float], seeds: int) -> Stratum:
    luck, level = LUCK * rng.normal(size=seeds), rng.uniform(2.5, 4.0)
    cost = rng.uniform(500.0, 5000.0)
    return Stratum(
        losses={
            name: level + luck + effect + NOISE * rng.normal(size=seeds)
            for name, effect in effects.items()
        },
        costs={
            name: cost / speedup * np.exp(COST_NOISE * rng.normal(size=seeds))
            for name, speedup in SPEEDUPS.items()
        },
        paired=True,
    )


def _truths(seeds: int) -> dict[tuple[str, str], float]:
    costs = [[1.0 / speedup] for speedup in SPEEDUPS.values()]
    areas = dict(zip(SPEEDUPS, profile_area(performance_ratios(costs)), strict=True))
    return {
        ("iqm_difference", "same"): 0.0,
        ("iqm_difference", "better"): EFFECTS["better"],
        ("iqm_speedup", "better"): SPEEDUPS["better"],
        ("speedup", "better"): SPEEDUPS["better"],
        ("improvement", "same"): 0.5,
        ("improvement", "better"): _improvement(EFFECTS["better"], seeds),
        ("score", "baseline"): float(areas["baseline"]),
    }


def _improvement(effect: float, seeds: int) -> float:
    """Of n^2 pairs of runs n share their seed, and with it their luck."""

    def below(spread: float) -> float:
        return 0.5 * math.erfc(effect / (spread * math.sqrt(2.0)) / math.sqrt(2.0))

    same, other = below(NOISE), below(math.hypot(NOISE, LUCK))
    return (same + (seeds - 1) * other) / seeds
