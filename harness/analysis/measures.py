"""The four measures on which variants are compared: means, intervals, change in percent."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.analysis.machines import seconds_compare
from harness.analysis.stats.arrays import MINIMUM_SEEDS
from harness.analysis.stats.intervals import mean_interval
from harness.analysis.stats.mean_tests import paired_t, welch_t
from harness.analysis.study_results import StudyResults
from harness.runs.snapshot import TrialSnapshot


@dataclass(frozen=True, kw_only=True)
class Measure:
    """`value` of a completed trial; with `exponential` it is averaged before it becomes `exp`.

    Perplexity is such a one: exp of the mean loss says the same as the mean loss does, and one seed
    with a high perplexity does not rule the mean. What is `of_machine` compares only between trials
    that had the same hardware.
    """

    name: str
    title: str
    value: Callable[[TrialSnapshot], float | None]
    unit: str = ""
    exponential: bool = False
    of_machine: bool = False

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
    ),
    Measure(
        name="perplexity",
        title="perplexity",
        value=lambda trial: trial.loss,
        exponential=True,
    ),
    Measure(
        name="accuracy",
        title="accuracy",
        value=lambda trial: trial.outcome.validation_accuracy if trial.outcome else None,
    ),
    Measure(
        name="training_time",
        title="training time",
        unit="s",
        of_machine=True,
        value=lambda trial: trial.last.train_time_s if trial.last else None,
    ),
)


def estimate(study: StudyResults, variant: str, measure: Measure) -> Estimate | None:
    """Mean and t interval over the seeds in hand; None if one of them did not complete.

    The mean of the survivors is not comparable, so there is none.
    """
    values = _values(study.in_hand(variant), measure)
    if not values:
        return None
    interval = mean_interval(values, level=study.level) if len(values) >= MINIMUM_SEEDS else None
    ends = (None, None) if interval is None else (interval.low, interval.high)
    mean = sum(values) / len(values)
    if not measure.exponential:
        return Estimate(mean=mean, low=ends[0], high=ends[1])
    return Estimate(mean=perplexity(mean), low=_exp(ends[0]), high=_exp(ends[1]))


def change(study: StudyResults, variant: str, measure: Measure) -> Estimate | None:
    """The variant's mean over the baseline's, minus 1, with a t interval.

    Paired or not as the comparison was. The noise of both means counts: with `R = mean(x) /
    mean(y)` the interval is that of the mean of `x - R y`, over `mean(y)` (delta method, Cochran,
    Sampling Techniques, 1977, chapter 6). For perplexity it is `exp(difference of losses) - 1`.
    None where a run lacks the value, and of times where runs had other hardware.
    """
    comparison = study.comparison(variant)
    own, base = (_values(trials, measure) for trials in study.compared(variant))
    if comparison is None or not own or not base:
        return None
    if measure.of_machine and not seconds_compare(study, variant):
        return None
    compare = paired_t if comparison.paired else welch_t
    if measure.exponential:
        test = compare(own, base)
        interval = test.interval(level=study.level)
        ends = (None, None) if interval is None else (interval.low, interval.high)
        low, high = (None if end is None else perplexity(end) - 1.0 for end in ends)
        return Estimate(mean=perplexity(test.estimate) - 1.0, low=low, high=high)
    scale = sum(base) / len(base)
    if not scale > 0.0:
        return None
    ratio = sum(own) / len(own) / scale
    interval = compare(own, [ratio * value for value in base]).interval(level=study.level)
    if interval is None:
        return Estimate(mean=ratio - 1.0)
    half = (interval.high - interval.low) / 2.0 / scale
    return Estimate(mean=ratio - 1.0, low=ratio - 1.0 - half, high=ratio - 1.0 + half)


def shown_values(trials: Sequence[TrialSnapshot], measure: Measure) -> list[float]:
    """Each completed trial's value as a reader sees it."""
    values = [measure.value(trial) for trial in trials if trial.completed]
    known = [value for value in values if value is not None and math.isfinite(value)]
    return [perplexity(value) for value in known] if measure.exponential else known


def _values(trials: Sequence[TrialSnapshot], measure: Measure) -> list[float]:
    """One a trial; empty if a trial has none."""
    values = [measure.value(trial) if trial.completed else None for trial in trials]
    known = [value for value in values if value is not None]
    return known if len(known) == len(trials) else []


def _exp(value: float | None) -> float | None:
    return None if value is None else perplexity(value)


def perplexity(loss: float) -> float:
    """`exp(loss)`; infinite where that overflows."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def median_of(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def median_tokens_per_s(trials: tuple[TrialSnapshot, ...] | list[TrialSnapshot]) -> float | None:
    return median_of([trial.tokens_per_s for trial in trials if trial.completed])
