"""Learning-rate schedules: pure functions of the step."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class LearningRateSchedule(BaseModel):
    """The factor on every group's learning rate, as a function of the step.

    The factor rises linearly over `warmup_steps`, and then

    - `constant` stays at 1;
    - `cosine` falls along half a cosine to `floor`;
    - `wsd` (warmup, stable, decay) stays at 1 and falls linearly to `floor` over the last
      `decay_fraction` of the steps;
    - `linear` falls linearly to `floor`.

    `floor` would be reached one step after the last: also a schedule that falls to zero wastes no
    step at a rate of zero.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["constant", "cosine", "wsd", "linear"] = Field(
        default="cosine", description="Shape of the schedule after the warmup."
    )
    warmup_steps: int = Field(
        default=0, ge=0, description="Optimizer steps of linear warmup; the first one is not zero."
    )
    floor: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="Where the decay ends, one step after the last, as a fraction of the peak. "
        "Unused by `constant`.",
    )
    decay_fraction: float = Field(
        default=0.2,
        gt=0.0,
        le=1.0,
        description="Fraction of all steps in which `wsd` decays. Unused by the other kinds.",
    )
    total_steps: int | None = Field(
        default=None,
        ge=1,
        # Absent where it is not given, so that it changes no hash of a study without it.
        exclude_if=lambda steps: steps is None,
        description="Optimizer steps of the whole schedule, where that is not the training's own "
        "length: a published run whose horizon counted micro-batches ends in the middle of its "
        "schedule. None: the training's length.",
    )


def learning_rate_factor(schedule: LearningRateSchedule, *, step: int, total_steps: int) -> float:
    """The factor on the learning rate for the update number `step`.

    Args:
        schedule: The shape.
        step: Counts from 0: `step = 0` is the first update, `total_steps - 1` the last.
        total_steps: Length of the training, in updates; `schedule.total_steps` goes before it.

    Returns:
        A factor in `(0, 1]` during the warmup and in `(floor, 1]` after it. `step = total_steps`
        would be the first at `floor`; later ones stay there.

    Raises:
        ValueError: When `step` is negative or `total_steps` is below 1.
    """
    if step < 0 or total_steps < 1:
        raise ValueError(
            f"step must be at least 0 and total_steps at least 1, got {step} and {total_steps}"
        )
    total_steps = schedule.total_steps or total_steps
    if step < schedule.warmup_steps:
        return (step + 1) / (schedule.warmup_steps + 1)
    if schedule.kind == "constant":
        return 1.0
    start = schedule.warmup_steps
    if schedule.kind == "wsd":
        start = max(start, total_steps - math.ceil(schedule.decay_fraction * total_steps))
    progress = _progress(step, start=start, end=total_steps)
    if schedule.kind == "cosine":
        progress = 0.5 * (1.0 - math.cos(math.pi * progress))
    return schedule.floor + (1.0 - schedule.floor) * (1.0 - progress)


def _progress(step: int, *, start: int, end: int) -> float:
    """0 until `start`, 1 at `end` and after."""
    if step >= end:
        return 1.0
    return max(0, step - start) / (end - start)
