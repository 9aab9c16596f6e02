"""What validation on windows of the training text would have said, and by how much it flatters."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from harness.analysis.stats.arrays import MINIMUM_SEEDS
from harness.analysis.stats.intervals import Interval, mean_interval, simultaneous_level
from harness.analysis.study_results import StudyResults


@dataclass(frozen=True, kw_only=True)
class Leak:
    """One variant, over its seeds, in nats.

    `worth` is the mean of validation loss - leaked loss, run by run: above 0 the leak flatters. The
    intervals of all variants hold together; None with fewer than 3 seeds.
    """

    variant: str
    n: int
    validation_loss: float
    leaked_loss: float
    worth: float
    interval: Interval | None


def leaks(study: StudyResults) -> tuple[Leak, ...]:
    """From the best variant on; without those that lost a seed or did not measure the leak."""
    level = simultaneous_level(study.level, comparisons=len(study.variants))
    found = (_leak(study, variant, level) for variant in study.ranked())
    return tuple(leak for leak in found if leak is not None)


def _leak(study: StudyResults, variant: str, level: float) -> Leak | None:
    trials = study.in_hand(variant)
    losses = [
        (trial.loss, trial.leaked_loss)
        for trial in trials
        if trial.loss is not None and trial.leaked_loss is not None
    ]
    if not losses or len(losses) < len(trials):
        return None
    worths = [loss - leaked for loss, leaked in losses]
    return Leak(
        variant=variant,
        n=len(losses),
        validation_loss=statistics.fmean(loss for loss, _ in losses),
        leaked_loss=statistics.fmean(leaked for _, leaked in losses),
        worth=statistics.fmean(worths),
        interval=mean_interval(worths, level=level) if len(worths) >= MINIMUM_SEEDS else None,
    )
