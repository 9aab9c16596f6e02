"""The settings of schedule-free AdamW. A study file is read by them without torch."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from optimizers.specs import OptimizerSpec


class ScheduleFreeSpec(OptimizerSpec):
    """Schedule-free AdamW (Defazio et al. 2024): an average of the iterates replaces the schedule.

    Give its variant `schedule = { kind = "constant" }` of its own, and warm up by `warmup_steps`:
    under a schedule that falls, the method is another one than its authors'. It is evaluated at
    the average, at which it does not train.
    """

    # The advice of its authors (github.com/facebookresearch/schedule_free): a rate one to ten times
    # AdamW's, beta1 0.9, or 0.95 or 0.98 for long runs, and a decay to be tuned anew.
    default_space: ClassVar[dict[str, dict[str, Any]]] = {
        "lr": {"kind": "loguniform", "low": 5e-4, "high": 2e-2},
        "beta1": {"kind": "choice", "values": [0.9, 0.95, 0.98]},
        "weight_decay": {"kind": "uniform", "low": 0.0, "high": 0.2, "limits": ["low"]},
    }

    kind: Literal["schedule_free"] = "schedule_free"
    beta1: float = Field(
        default=0.9,
        gt=0.0,
        le=1.0,
        description="Share of the average in the point at which gradients are taken.",
    )
    beta2: float = Field(
        default=0.95, ge=0.0, lt=1.0, description="Decay of the mean squared gradient."
    )
    epsilon: float = Field(
        default=1e-8, gt=0.0, description="Added to the root of the mean squared gradient."
    )
    weight_decay: float = Field(
        default=0.1,
        ge=0.0,
        description="Decay per unit of learning rate, of the weights at which it trains, on "
        "tensors of two or more dimensions.",
    )
    warmup_steps: int = Field(
        default=0,
        ge=0,
        description="Optimizer steps of linear warm-up, which also counts in the average; beside "
        "it the learning-rate schedule should be constant, without a warm-up.",
    )
    r: float = Field(
        default=0.0, ge=0.0, description="Power of the step in its weight in the average."
    )
    weight_lr_power: float = Field(
        default=2.0,
        ge=0.0,
        description="Power of the largest learning rate so far in a step's weight in the average.",
    )
