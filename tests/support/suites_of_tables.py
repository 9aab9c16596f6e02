"""Tasks of a suite with made-up results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from result_tables import run

from harness.analysis.compare import analyse
from harness.analysis.suite.results import Speedup
from harness.analysis.suite.task_data import TaskData, TaskRun
from harness.study.settings import AnalysisSettings

VARIANTS = ("adamw", "muon", "lion")


def made_task(
    name: str,
    effects: Mapping[str, float],
    *,
    of: int,
    seed: int,
    seeds: Sequence[int] = tuple(range(8)),
    costs: Mapping[str, float] | None = None,
    lost: Mapping[str, int] | None = None,
    speedups: Mapping[str, float] | None = None,
    size: float | None = None,
    tokens: float | None = None,
) -> TaskData:
    """One of `of` tasks: losses with shared luck, costs without noise.

    Args:
        lost: how many of a contestant's first runs diverged.
    """
    rng, lost = np.random.default_rng(seed), lost or {}
    luck = 0.03 * rng.normal(size=len(seeds))
    rows = [
        run(variant, s, None, "diverged")
        if index < lost.get(variant, 0)
        else run(variant, s, 3.0 + luck[index] + effect + 0.004 * rng.normal())
        for variant, effect in effects.items()
        for index, s in enumerate(seeds)
    ]
    analysis = analyse(rows, AnalysisSettings(baseline=next(iter(effects)), alpha=0.05 / of))
    return TaskData(
        name=name,
        active_parameters=size,
        tokens=tokens,
        unit="nats",
        runs={
            variant: tuple(
                TaskRun(
                    seed=row.seed,
                    value=row.value,
                    outcome=row.outcome,
                    cost=None if costs is None or row.value is None else costs[variant],
                )
                for row in rows
                if row.variant == variant
            )
            for variant in effects
        },
        analysis=analysis,
        paired=True,
        has_costs=costs is not None,
        speedups={
            "horizons": {
                variant: Speedup(
                    source="horizons", kind="about", value=value, low=None, high=None, level=0.95
                )
                for variant, value in (speedups or {}).items()
            }
        },
    )
