"""A made-up analysis of a suite, as large as wanted: for what shows it, not for what computes it.

Sizes times lengths are the tasks. The first challenger is the best, the others follow; `hot` loses
a run to divergence on the largest task, `crash` all its runs of the first task to failures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from harness.analysis.stats.intervals import Interval
from harness.analysis.stats.verdict import Verdict
from harness.analysis.suite.results import (
    Axis,
    Estimate,
    Extrapolation,
    HyperparameterScaling,
    Profile,
    RankComparison,
    ScalingFit,
    ScalingPoint,
    Speedup,
    SpeedupScaling,
    Standing,
    SuiteAnalysis,
    TaskInfo,
    TaskResult,
    Transfer,
)
from harness.study.suite_settings import SuiteSettings

NAMES = ("muon", "soap", "normuon", "hot", "crash", "mars", "ademamix", "nadamw", "lion", "adopt")
SIZES = {"small": 2e6, "medium": 8e6, "large": 32e6}
LENGTHS = {"short": 4e6, "long": 16e6}
SEEDS = 5


def made_up_suite(
    *,
    contestants: Sequence[str] = NAMES[:5],
    sizes: Sequence[str] = tuple(SIZES),
    lengths: Sequence[str] = tuple(LENGTHS),
    costs: bool = True,
    open_task: bool = False,
    settings: SuiteSettings | None = None,
) -> SuiteAnalysis:
    """
    Args:
        costs: whether there is a target that runs arrive at, and so profiles and speed-ups.
        open_task: the last task is not finished.
    """
    variants = ("adamw", *contestants)
    random = np.random.default_rng(0)
    tasks = [
        _task(
            size,
            length,
            open_=open_task and (size, length) == (sizes[-1], lengths[-1]),
            costs=costs,
        )
        for size, length in product(sizes, lengths)
    ]
    results = [
        _result(task, variant, index, tasks=tasks, random=random, costs=costs)
        for task in tasks
        for index, variant in enumerate(variants)
    ]
    ranked = _with_ranks(results, tasks)
    settings = settings or SuiteSettings()
    profiles = _profiles(ranked, variants, settings.largest_ratio) if costs else ()
    board = _leaderboard(ranked, variants, profiles, tasks)
    return SuiteAnalysis(
        name="ladder",
        settings=settings,
        baseline="adamw",
        variants=variants,
        measure_in_words="steps to the target" if costs else "no costs",
        tasks=tuple(tasks),
        results=tuple(ranked),
        leaderboard=board,
        ordered_by="score" if costs else "mean rank",
        profiles=profiles,
        ranks=_ranks(board, len(tasks)),
        speedups=tuple(_scaling(ranked, v, tasks) for v in contestants) if costs else (),
        hyperparameters=tuple(
            _hyperparameters(v, tasks, index) for index, v in enumerate(variants[:3])
        ),
        notes=(
            f"all {len(tasks) * len(contestants)} verdicts hold together at 95 %: the chance of "
            "any false one is at most 5 %",
        ),
    )


def _task(size: str, length: str, *, open_: bool, costs: bool) -> TaskInfo:
    return TaskInfo(
        task=f"{size}-{length}",
        active_parameters=SIZES[size],
        tokens=LENGTHS[length],
        size=size,
        length=length,
        seeds=SEEDS,
        paired=True,
        unit="nats",
        target=3.4 if costs else None,
        target_in_words="the mean final loss of adamw" if costs and not open_ else "",
        baseline_cost=None if open_ else 1000.0,
        why_not="3 of 5 seeds are finished: run the suite again" if open_ else None,
    )


def _result(
    task: TaskInfo,
    variant: str,
    index: int,
    *,
    tasks: Sequence[TaskInfo],
    random: np.random.Generator,
    costs: bool,
) -> TaskResult:
    lost = {"hot": 1 if task is tasks[-1] else 0, "crash": SEEDS if task is tasks[0] else 0}
    gone = lost.get(variant, 0)
    diverged = gone if variant == "hot" else 0
    effect = 0.0 if index == 0 else -0.06 + 0.014 * index + 0.006 * float(random.normal())
    open_ = task.why_not is not None
    known = not gone and not open_ and index > 0
    verdict: Verdict | None = None
    if index > 0 and not open_:
        verdict = "better" if effect < -0.012 else "worse" if effect > 0.012 or gone else None
        verdict = verdict or "inconclusive"
        verdict = "worse" if gone else verdict
    cost = None if gone > 2 or open_ or not costs else 1000.0 * math.exp(6 * effect)
    interval = Interval(low=effect - 0.012, high=effect + 0.012, level=0.998) if known else None
    ratio = 1000.0 / cost if cost else None
    return TaskResult(
        task=task.task,
        variant=variant,
        seeds=SEEDS,
        completed=0 if open_ else SEEDS - gone,
        diverged=diverged,
        lost=gone,
        mean_loss=None if gone or open_ else 3.4 + effect,
        difference=effect if known else None,
        interval=interval,
        adjusted_p=0.003 if known else None,
        verdict=verdict,
        sentence=f"{variant} on {task.task}: made up" if verdict else None,
        cost=cost,
        ratio=None,
        rank=None,
        speedup=Speedup(
            source="inside a run",
            kind="about" if ratio else "at most",
            value=ratio or 0.9,
            low=0.9 * ratio if ratio else None,
            high=1.1 * ratio if ratio else 0.9,
            level=0.99,
        )
        if index > 0 and not open_ and costs
        else None,
    )


def _with_ranks(results: Sequence[TaskResult], tasks: Sequence[TaskInfo]) -> list[TaskResult]:
    from dataclasses import replace

    made = []
    for task in tasks:
        own = [r for r in results if r.task == task.task]
        order = sorted(own, key=lambda r: math.inf if r.mean_loss is None else r.mean_loss)
        cheapest = min((r.cost for r in own if r.cost is not None), default=None)
        for r in own:
            ratio = r.cost / cheapest if r.cost and cheapest else None
            rank = None if task.why_not else float(order.index(r) + 1)
            made.append(replace(r, ratio=ratio, rank=rank))
    return made


def _profiles(
    results: Sequence[TaskResult], variants: Sequence[str], largest: float
) -> tuple[Profile, ...]:
    made = []
    for variant in variants:
        own = [r for r in results if r.variant == variant]
        ratios = sorted({1.0, *(r.ratio for r in own if r.ratio), largest})
        ratios = [ratio for ratio in ratios if ratio <= largest]
        shares = [sum(bool(r.ratio and r.ratio <= x) for r in own) / len(own) for x in ratios]
        made.append(Profile(variant=variant, ratios=tuple(ratios), shares=tuple(shares)))
    return tuple(made)


def _leaderboard(
    results: Sequence[TaskResult],
    variants: Sequence[str],
    profiles: Sequence[Profile],
    tasks: Sequence[TaskInfo],
) -> tuple[Standing, ...]:
    rows = []
    for variant in variants:
        own = [r for r in results if r.variant == variant and r.rank is not None]
        profile = next((p for p in profiles if p.variant == variant), None)
        words = [r.verdict for r in own]
        challenger = variant != "adamw"
        counts: dict[str, Any] = {
            word: words.count(word) if challenger else None
            for word in ("better", "worse", "equivalent", "inconclusive")
        }
        ranks = [r.rank for r in own if r.rank is not None]
        speedups = [1000.0 / r.cost for r in own if r.cost]
        whole = len(speedups) == len(own) and bool(own)
        mean = math.exp(float(np.mean(np.log(speedups)))) if whole else None
        differences = [r.difference for r in own if r.difference is not None]
        rows.append(
            Standing(
                variant=variant,
                is_baseline=not challenger,
                place=0,
                score=None if profile is None else _around(_area(profile), 0.03, top=1.0),
                reached=len(speedups),
                tasks=len(own),
                speedup=None if mean is None or not challenger else _around(mean, 0.05),
                iqm_speedup=None if mean is None or not challenger else _around(mean + 0.02, 0.06),
                iqm_difference=_around(float(np.mean(differences)), 0.004) if differences else None,
                improvement=_around(0.5 - 6 * float(np.mean(differences)), 0.08, top=1.0)
                if differences
                else None,
                mean_rank=_around(float(np.mean(ranks)), 0.4) if ranks else None,
                runs=SEEDS * len(own),
                lost=sum(r.lost for r in own),
                diverged=sum(r.diverged for r in own),
                sentence=f"{variant}: made up",
                **counts,
            )
        )

    def order(row: Standing) -> float:
        if row.score is not None:
            return -row.score.value
        return row.mean_rank.value if row.mean_rank else math.inf

    from dataclasses import replace

    rows.sort(key=order)
    places = [1 + sum(order(other) < order(row) for other in rows) for row in rows]
    return tuple(replace(row, place=place) for row, place in zip(rows, places, strict=True))


def _area(profile: Profile) -> float:
    steps = np.diff(np.log(profile.ratios))
    return float(steps @ np.array(profile.shares[:-1]) / np.log(profile.ratios[-1]))


def _around(value: float, half: float, *, top: float = math.inf) -> Estimate:
    return Estimate(value=value, low=value - half, high=min(top, value + half), level=0.95)


def _ranks(board: Sequence[Standing], tasks: int) -> RankComparison:
    means = {row.variant: row.mean_rank.value for row in board if row.mean_rank}
    ordered = sorted(means, key=lambda name: means[name])
    critical = 1.6
    groups: list[tuple[str, ...]] = []
    for start in range(len(ordered)):
        group = tuple(v for v in ordered[start:] if means[v] - means[ordered[start]] <= critical)
        if len(group) > 1 and not any(set(group) <= set(other) for other in groups):
            groups.append(group)
    return RankComparison(
        tasks=tasks,
        mean_ranks={row.variant: means[row.variant] for row in board if row.variant in means},
        friedman_statistic=12.0,
        friedman_p=0.004,
        critical_difference=critical,
        groups=tuple(groups),
        why_not=None,
        note=f"{tasks} tasks are few" if tasks < 10 else None,
    )


def _scaling(
    results: Sequence[TaskResult], variant: str, tasks: Sequence[TaskInfo]
) -> SpeedupScaling:
    points = tuple(
        ScalingPoint(
            task=r.task,
            active_parameters=t.active_parameters,
            tokens=t.tokens,
            value=r.speedup.value,
            low=r.speedup.low,
            high=r.speedup.high,
        )
        for t in tasks
        for r in results
        if r.task == t.task and r.variant == variant
        if r.speedup is not None and r.speedup.value and r.speedup.kind == "about"
    )
    if len(points) < 4:
        return SpeedupScaling(
            variant=variant, points=points, fit=None, why_not=f"{len(points)} tasks are too few"
        )
    return SpeedupScaling(variant=variant, points=points, fit=_fit(points), why_not=None)


def _fit(points: Sequence[ScalingPoint]) -> ScalingFit:
    middle = math.exp(float(np.mean([math.log(p.value) for p in points])))
    axes: dict[Axis, list[float]] = {
        "size": sorted({p.active_parameters for p in points if p.active_parameters}),
        "tokens": sorted({p.tokens for p in points if p.tokens}),
    }
    curve: dict[Axis, tuple[tuple[float, float], ...]] = {}
    predictions = []
    for axis, values in axes.items():
        centre = math.exp(float(np.mean(np.log(values))))
        places = [p.active_parameters if axis == "size" else p.tokens for p in points]
        logs = np.log(np.array(places, dtype=float)), np.log([p.value for p in points])
        slope = float(np.polyfit(*logs, 1)[0])
        xs = np.geomspace(values[0], values[-1], 20)
        curve[axis] = tuple((float(x), middle * (x / centre) ** slope) for x in xs)
        at = 4 * values[-1]
        guess = middle * (at / centre) ** slope
        predictions.append(
            Extrapolation(
                axis=axis,
                at=at,
                factor=4.0,
                value=Estimate(value=guess, low=0.8 * guess, high=1.25 * guess, level=0.95),
                sentence=f"at 4 times the largest {axis}: {guess:.2f}, an extrapolation",
            )
        )
    slope = -0.03
    exponent = Estimate(value=slope, low=-0.08, high=0.02, level=0.95)
    doubling = Estimate(value=2**slope, low=2**-0.08, high=2**0.02, level=0.95)
    return ScalingFit(
        exponents=dict.fromkeys(axes, exponent),
        per_doubling=dict.fromkeys(axes, doubling),
        intercept=0.0,
        residual_sd=0.05,
        degrees_of_freedom=len(points) - 3,
        curve=curve,
        predictions=tuple(predictions),
        sentence="the speed-up changes by a factor 0.98 when the model doubles",
    )


def _hyperparameters(variant: str, tasks: Sequence[TaskInfo], index: int) -> HyperparameterScaling:
    points = tuple(
        ScalingPoint(
            task=t.task,
            active_parameters=t.active_parameters,
            tokens=t.tokens,
            value=0.01 * (1 + index) * ((t.active_parameters or 1) / 1e6) ** -0.3,
        )
        for t in tasks
    )
    return HyperparameterScaling(
        variant=variant,
        setting="lr",
        points=points,
        not_tuned=(tasks[-1].task,) if index == 1 else (),
        fit=_fit(points) if len(points) > 3 else None,
        why_not=None if len(points) > 3 else "too few tasks",
        transfers=(
            Transfer(source=tasks[0].task, to=tasks[-1].task, distance=0.08, loss=0.011),
            Transfer(source=tasks[-1].task, to=tasks[0].task, distance=0.11, loss=None),
        ),
    )
