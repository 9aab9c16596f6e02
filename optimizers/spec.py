"""What every optimizer specification has in common."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

FormChoice = Literal["auto", "standard", "gram"]
DtypeChoice = Literal["auto", "fp32", "bf16", "fp16"]


class OptimizerSpec(BaseModel):
    """Base of all optimizer specifications: frozen, and unknown fields are errors.

    A subclass declares `kind: Literal["its_name"]`, which the registry maps to its build function.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lr: float = Field(
        gt=0.0,
        description="Peak learning rate, before the schedule and before any scale by shape.",
    )
