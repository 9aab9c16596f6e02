"""Values by step over several seeds: mean and t interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.analysis.stats.arrays import MINIMUM_SEEDS
from harness.analysis.stats.intervals import mean_interval
from harness.runs.snapshot import TrialSnapshot
from harness.training.records import Report

Points = Mapping[int, float]


@dataclass(frozen=True, kw_only=True)
class Band:
    """Mean and interval at each step; `low` and `high` are the mean where there is no interval."""

    steps: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    seeds: int

    @property
    def has_interval(self) -> bool:
        return self.low != self.mean or self.high != self.mean


def points(trial: TrialSnapshot, value: Callable[[Report], float | None]) -> dict[int, float]:
    """The trial's values by step; steps without a finite value are left out."""
    return {
        report.step: number for report in trial.reports if (number := value(report)) is not None
    }


def validation_loss(trial: TrialSnapshot) -> dict[int, float]:
    return points(trial, lambda report: report.validation_loss)


def band(curves: Sequence[Points], *, level: float = 0.95) -> Band | None:
    """Mean over the seeds at the steps that all of them have; None if there are none.

    Steps that only some seeds have reached would make the mean jump where a seed ends.
    """
    if not curves:
        return None
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    if not steps:
        return None
    mean, low, high = [], [], []
    for step in steps:
        values = [curve[step] for curve in curves]
        centre = sum(values) / len(values)
        interval = mean_interval(values, level=level) if len(values) >= MINIMUM_SEEDS else None
        mean.append(centre)
        low.append(interval.low if interval else centre)
        high.append(interval.high if interval else centre)
    return Band(
        steps=tuple(steps), mean=tuple(mean), low=tuple(low), high=tuple(high), seeds=len(curves)
    )
