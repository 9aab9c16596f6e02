"""The four measures on which variants are compared: means, intervals, change in percent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.report import numbers
from harness.report.rows import perplexity
from harness.report.view import StudyView, TrialView
from harness.stats.arrays import MINIMUM_SEEDS
from harness.stats.intervals import mean_interval
from harness.stats.mean_tests import paired_t, welch_t


@dataclass(frozen=True, kw_only=True)
class Measure:
    """`value` of a completed trial; with `exponential` it is averaged before it becomes `exp`.

    Perplexity is such a one: exp of the mean loss says the same as the mean loss does, and one seed
    with a high perplexity does not rule the mean.
    """

    name: str
    title: str
    value: Callable[[TrialView], float | None]
    write: Callable[[float], str]
    unit: str = ""
    exponential: bool = False

    @property
    def axis(self) -> str:
        """The title with the unit of bare numbers."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over seeds; `low` and `high` are None where there is no interval."""

    mean: float
    low: float | None = None
    high: float | None = None


MEASURES: tuple[Measure, ...] = (
    Measure(
        name="validation_loss",
        title="validation loss",
        unit="nats",
        value=lambda trial: trial.loss,
        write=numbers.loss,
    ),
    Measure(
        name="perplexity",
        title="perplexity",
        value=lambda trial: trial.loss,
        write=numbers.decimal,
        exponential=True,
    ),
    Measure(
        name="accuracy",
        title="accuracy",
        value=lambda trial: trial.outcome.validation_accuracy if trial.outcome else None,
        write=lambda value: numbers.percent(value, digits=2),
    ),
    Measure(
        name="training_time",
        title="training time",
        unit="s",
        value=lambda trial: trial.last.train_time_s if trial.last else None,
        write=numbers.duration,
    ),
)


def estimate(view: StudyView, variant: str, measure: Measure) -> Estimate | None:
    """Mean and t interval over the analysed seeds; None if one of them did not complete.

    The mean of the survivors is not comparable, so there is none.
    """
    summary = view.summary(variant)
    seeds = summary["seeds"] if summary else view.seeds
    finished = [t for t in view.of(variant) if t.seed in seeds and t.outcome is not None]
    values = _values(finished, measure)
    if not values:
        return None
    interval = mean_interval(values, level=view.level) if len(values) >= MINIMUM_SEEDS else None
    ends = (None, None) if interval is None else (interval.low, interval.high)
    mean = sum(values) / len(values)
    if not measure.exponential:
        return Estimate(mean=mean, low=ends[0], high=ends[1])
    return Estimate(mean=perplexity(mean), low=_exp(ends[0]), high=_exp(ends[1]))


def change(view: StudyView, variant: str, measure: Measure) -> Estimate | None:
    """The variant's mean over the baseline's, minus 1, with a t interval.

    Paired or not as the comparison was. The noise of both means counts: with `R = mean(x) /
    mean(y)` the interval is that of the mean of `x - R y`, over `mean(y)` (delta method, Cochran,
    Sampling Techniques, 1977, chapter 6). For perplexity it is `exp(difference of losses) - 1`.
    """
    comparison = view.comparison(variant)
    own, base = (_values(trials, measure) for trials in view.compared(variant))
    if comparison is None or not own or not base:
        return None
    compare = paired_t if comparison["paired"] else welch_t
    if measure.exponential:
        test = compare(own, base)
        interval = test.interval(level=view.level)
        ends = (None, None) if interval is None else (interval.low, interval.high)
        low, high = (None if end is None else perplexity(end) - 1.0 for end in ends)
        return Estimate(mean=perplexity(test.estimate) - 1.0, low=low, high=high)
    scale = sum(base) / len(base)
    if not scale > 0.0:
        return None
    ratio = sum(own) / len(own) / scale
    interval = compare(own, [ratio * value for value in base]).interval(level=view.level)
    if interval is None:
        return Estimate(mean=ratio - 1.0)
    half = (interval.high - interval.low) / 2.0 / scale
    return Estimate(mean=ratio - 1.0, low=ratio - 1.0 - half, high=ratio - 1.0 + half)


def shown_values(trials: Sequence[TrialView], measure: Measure) -> list[float]:
    """Each completed trial's value as a reader sees it."""
    values = [measure.value(trial) for trial in trials if trial.completed]
    known = [value for value in values if value is not None and math.isfinite(value)]
    return [perplexity(value) for value in known] if measure.exponential else known


def _values(trials: Sequence[TrialView], measure: Measure) -> list[float]:
    """One a trial; empty if a trial has none."""
    values = [measure.value(trial) if trial.completed else None for trial in trials]
    known = [value for value in values if value is not None]
    return known if len(known) == len(trials) else []


def _exp(value: float | None) -> float | None:
    return None if value is None else perplexity(value)
