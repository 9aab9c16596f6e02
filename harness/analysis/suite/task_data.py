"""What the analysis of a suite reads of one task, wherever it came from: a study or a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from harness.analysis.results import Analysis
from harness.analysis.search.results import VariantSearch
from harness.analysis.stats.arrays import FloatArray
from harness.analysis.stats.stratified import Stratum
from harness.analysis.suite.results import Speedup, SpeedupSource


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRun:
    """One run: `value` is its final loss, None unless it completed; `cost` what it spent until the
    target, None where it never arrived or the task has no costs."""

    seed: int
    value: float | None
    outcome: str = "completed"
    cost: float | None = None


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """One task; `why_not` says why it has no result yet, and then it has no runs.

    Args:
        runs: by contestant, by ascending seed: the runs that are analysed.
        analysis: at alpha / number of tasks.
        paired: whether runs of one seed are pairs for all contestants.
        has_costs: whether `cost` was measured; `why_no_costs` says why not.
        speedups: by source, then by contestant.
        searches: of the contestants that were tuned.
        interim: whether planned runs are missing, and nobody planned to look before the last one.
    """

    name: str
    active_parameters: float | None = None
    tokens: float | None = None
    size: str | None = None
    length: str | None = None
    unit: str | None = None
    runs: Mapping[str, tuple[TaskRun, ...]] = field(default_factory=dict)
    analysis: Analysis | None = None
    paired: bool = False
    has_costs: bool = False
    why_no_costs: str | None = None
    target: float | None = None
    target_in_words: str = ""
    speedups: Mapping[SpeedupSource, Mapping[str, Speedup]] = field(default_factory=dict)
    searches: Mapping[str, VariantSearch] = field(default_factory=dict)
    why_not: str | None = None
    note: str | None = None
    interim: bool = False

    @property
    def stratum(self) -> Stratum:
        """For the bootstrap; of pairs the seeds that all contestants have."""
        runs = dict(self.runs)
        if self.paired:
            shared = set.intersection(*({run.seed for run in own} for own in runs.values()))
            runs = {name: tuple(r for r in own if r.seed in shared) for name, own in runs.items()}
        return Stratum(
            losses={name: _vector([run.value for run in own]) for name, own in runs.items()},
            costs={name: _vector([run.cost for run in own]) for name, own in runs.items()}
            if self.has_costs
            else None,
            paired=self.paired,
        )

    def speedup(self, variant: str) -> Speedup | None:
        """From horizons where they say something, be it a bound: the one to quote."""
        found = [
            own[variant]
            for source in ("horizons", "table", "inside a run")
            if variant in (own := self.speedups.get(source, {}))
        ]
        known = [speedup for speedup in found if speedup.kind != "undetermined"]
        return next(iter([*known, *found]), None)


def _vector(values: list[float | None]) -> FloatArray:
    return np.array([math.inf if value is None else value for value in values])
