"""The leaderboard of a suite: every score over the tasks, with a bootstrap interval over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.analysis.stats.arrays import FloatArray
from harness.analysis.stats.performance_profiles import (
    performance_ratios,
    profile_area,
    profile_steps,
)
from harness.analysis.stats.stratified import (
    Drawn,
    Stratum,
    expanded_interval,
    observed,
    resample,
)
from harness.analysis.stats.suite_scores import (
    differences,
    improvement,
    log_speedups,
    mean_ranks,
    median_costs,
    order_values,
    pooled_interquartile_mean,
)
from harness.analysis.suite.results import Estimate, Profile, Standing, TaskResult
from harness.study.suite_settings import SuiteSettings

Scores = Mapping[str, Mapping[str, FloatArray]]
"""By name of the score, then by contestant: shape (resamples,)."""

RATIOS = ("speedup", "iqm_speedup")
"""Of costs: infinite where the baseline did not arrive, 0 where the contestant did not."""

OF_COSTS = ("score", *RATIOS)
"""Scores that only tasks with costs have."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Every score as it is and as it comes out of each resample.

    `seeds` of each task, `timed_seeds` of each that has costs.
    """

    observed: Scores
    resampled: Scores
    seeds: tuple[int, ...]
    timed_seeds: tuple[int, ...]
    level: float

    def estimate(self, score: str, variant: str) -> Estimate | None:
        """None where the score is not finite, or a ratio of costs of which one did not arrive."""
        if score not in self.observed:
            return None
        value = _known(score, float(self.observed[score][variant][0]))
        if value is None:
            return None
        draws = self.resampled[score][variant]
        # A resample of which nothing can be said may lie on either side.
        unknown = bool(np.isnan(draws).any())
        seeds = self.timed_seeds if score in OF_COSTS else self.seeds
        interval = None if unknown else expanded_interval(draws, level=self.level, seeds=seeds)
        ends = () if interval is None else (interval.low, interval.high)
        low, high = [_known(score, end) for end in ends] or [None, None]
        return Estimate(
            value=value,
            low=low,
            high=high,
            level=self.level,
            unbounded=unknown or (interval is not None and low is high is None),
        )


def _known(score: str, value: float) -> float | None:
    """None where it is not finite, or a ratio to a cost that is not."""
    if not math.isfinite(value) or (score in RATIOS and value == 0.0):
        return None
    return value


def score_tasks(
    strata: Sequence[Stratum], variants: Sequence[str], baseline: str, settings: SuiteSettings
) -> Scored:
    """All scores of all contestants.

    Args:
        strata: the tasks that have results; at least one.
    """
    rng = np.random.default_rng(settings.seed)
    drawn = [resample(stratum, rng, resamples=settings.resamples) for stratum in strata]
    sizes = [min(len(own) for own in stratum.losses.values()) for stratum in strata]
    timed = [size for size, own in zip(sizes, strata, strict=True) if own.costs is not None]
    return Scored(
        observed=_scores([observed(s) for s in strata], variants, baseline, settings),
        resampled=_scores(drawn, variants, baseline, settings),
        seeds=tuple(sizes),
        timed_seeds=tuple(timed),
        level=1.0 - settings.alpha,
    )


def _scores(
    tasks: Sequence[Drawn], variants: Sequence[str], baseline: str, settings: SuiteSettings
) -> Scores:
    challengers = [name for name in variants if name != baseline]
    ranks = mean_ranks(order_values(tasks, variants))
    found: dict[str, dict[str, FloatArray]] = {
        "mean_rank": {name: ranks[:, i] for i, name in enumerate(variants)},
        "improvement": {name: improvement(tasks, name, baseline) for name in challengers},
        "iqm_difference": {
            name: pooled_interquartile_mean([differences(task, name, baseline) for task in tasks])
            for name in challengers
        },
    }
    timed = [task for task in tasks if task.costs is not None]
    if not timed:
        return found
    costs = median_costs(timed, variants)
    areas = profile_area(performance_ratios(costs), largest_ratio=settings.largest_ratio)
    base = np.log(costs[:, list(variants).index(baseline)])
    with np.errstate(invalid="ignore"):
        logs = {name: base - np.log(costs[:, i]) for i, name in enumerate(variants)}
        found["speedup"] = {name: np.exp(logs[name].mean(axis=-1)) for name in challengers}
    found["score"] = {name: areas[:, i] for i, name in enumerate(variants)}
    found["iqm_speedup"] = {
        name: np.exp(
            pooled_interquartile_mean([log_speedups(task, name, baseline) for task in timed])
        )
        if _any_arrived(timed, name, baseline)
        else np.full(len(costs), np.nan)
        for name in challengers
    }
    return found


def _any_arrived(tasks: Sequence[Drawn], *names: str) -> bool:
    """Runs that never arrive tie; where nobody's did, that is no speed-up of 1."""
    costs = [task.costs[name] for task in tasks if task.costs is not None for name in names]
    return any(bool(np.isfinite(own).any()) for own in costs)


def leaderboard(
    scored: Scored,
    results: Sequence[TaskResult],
    variants: Sequence[str],
    baseline: str,
    *,
    one_unit: bool,
) -> tuple[Standing, ...]:
    """Rows in the order of the score, of the mean rank where there are no costs.

    Args:
        results: of the tasks that have results.
        one_unit: whether the losses of all tasks are counted in the same unit.
    """
    by_score = "score" in scored.observed

    def key(variant: str) -> float:
        estimate = scored.estimate("score" if by_score else "mean_rank", variant)
        assert estimate is not None, "areas and ranks are always finite"
        return -estimate.value if by_score else estimate.value

    keys = {variant: round(key(variant), 12) for variant in variants}
    order = sorted(variants, key=lambda variant: keys[variant])
    return tuple(
        _standing(
            variant,
            [result for result in results if result.variant == variant],
            scored,
            baseline,
            place=1 + sum(other < keys[variant] for other in keys.values()),
            one_unit=one_unit,
        )
        for variant in order
    )


def _standing(
    variant: str,
    own: Sequence[TaskResult],
    scored: Scored,
    baseline: str,
    *,
    place: int,
    one_unit: bool,
) -> Standing:
    is_baseline = variant == baseline
    count: Callable[[str], int] = lambda word: sum(  # noqa: E731
        (result.verdict or "").startswith(word) for result in own
    )
    words = ("better", "worse", "equivalent", "inconclusive")
    judged = not is_baseline and any(result.verdict is not None for result in own)
    counts = {word: count(word) if judged else None for word in words}

    def of_challenger(score: str) -> Estimate | None:
        return None if is_baseline else scored.estimate(score, variant)

    return Standing(
        variant=variant,
        is_baseline=is_baseline,
        place=place,
        score=scored.estimate("score", variant),
        reached=sum(result.cost is not None for result in own),
        tasks=len(own),
        speedup=of_challenger("speedup"),
        iqm_speedup=of_challenger("iqm_speedup"),
        iqm_difference=of_challenger("iqm_difference") if one_unit else None,
        improvement=of_challenger("improvement"),
        mean_rank=scored.estimate("mean_rank", variant),
        **counts,
        runs=sum(result.seeds for result in own),
        lost=sum(result.lost for result in own),
        diverged=sum(result.diverged for result in own),
        sentence=_sentence(variant, baseline, len(own), counts),
    )


def _sentence(variant: str, baseline: str, tasks: int, counts: Mapping[str, int | None]) -> str:
    """`muon is better than adamw on 4 of 9 tasks, worse on none, equivalent on 2`."""
    if variant == baseline:
        return f"{variant} is the baseline"
    better, worse, equivalent = (counts[word] for word in ("better", "worse", "equivalent"))
    if better is None or worse is None:
        return f"{variant} has no verdicts yet"
    alike = f", equivalent on {equivalent}" if equivalent else ""
    return (
        f"{variant} is better than {baseline} on {better or 'none'} of {tasks} tasks, worse on "
        f"{worse or 'none'}{alike}"
    )


def profiles(
    strata: Sequence[Stratum], variants: Sequence[str], settings: SuiteSettings
) -> tuple[Profile, ...]:
    """Of the tasks that have costs; none without."""
    timed = [observed(stratum) for stratum in strata if stratum.costs is not None]
    if not timed:
        return ()
    ratios = performance_ratios(median_costs(timed, variants)[0])
    steps = (profile_steps(own, largest_ratio=settings.largest_ratio) for own in ratios)
    return tuple(
        Profile(variant=name, ratios=taus, shares=shares)
        for name, (taus, shares) in zip(variants, steps, strict=True)
    )
