"""Successive halving within each variant, never between two of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from harness.study.settings import AshaSettings
from harness.training.records import Report
from tune.trainable import LOSS, STEP


class HalvingWithinVariants(FIFOScheduler):  # type: ignore[misc]
    """One ASHA scheduler of Ray Tune for each variant.

    Args:
        steps: of a whole tuning trial; a trial that got this far is never stopped.
        finished: reports of runs that ended before an interruption, by key with their variant; they
            fill the rungs as they did then.
    """

    def __init__(
        self,
        settings: AshaSettings,
        *,
        steps: int,
        variants: Iterable[str],
        finished: Mapping[str, tuple[str, list[Report]]],
    ) -> None:
        super().__init__()
        self.steps = steps
        self.by_variant = {
            name: AsyncHyperBandScheduler(
                time_attr=STEP,
                metric=LOSS,
                mode="min",
                max_t=steps,
                grace_period=math.ceil(steps * settings.grace_fraction),
                reduction_factor=settings.reduction_factor,
            )
            for name in variants
        }
        for key, (variant, reports) in finished.items():
            trial = SimpleNamespace(trial_id=key, config={"trial": {"variant": variant}})
            self.on_trial_add(None, trial)
            for report in reports:
                self.on_trial_result(None, trial, result_of(report))

    def _asha(self, trial: Any) -> Any:
        return self.by_variant[trial.config["trial"]["variant"]]

    def on_trial_add(self, controller: Any, trial: Any) -> None:
        self._asha(trial).on_trial_add(controller, trial)

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if result.get(STEP, self.steps) >= self.steps:
            return str(TrialScheduler.CONTINUE)
        return str(self._asha(trial).on_trial_result(controller, trial, result))


def result_of(report: Report) -> dict[str, Any]:
    """What a scheduler reads; a non-finite loss is left out: such a trial ends by itself."""
    loss = {} if report.validation_loss is None else {LOSS: report.validation_loss}
    return {STEP: report.step, **loss}
