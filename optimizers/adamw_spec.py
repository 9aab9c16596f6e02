"""The settings of AdamW."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from optimizers.spec import OptimizerSpec


class AdamWSpec(OptimizerSpec):
    """AdamW (Loshchilov and Hutter 2019) with decoupled weight decay on matrices only."""

    kind: Literal["adamw"] = "adamw"
    beta1: float = Field(default=0.9, ge=0.0, lt=1.0, description="Decay of the mean gradient.")
    beta2: float = Field(
        default=0.95, ge=0.0, lt=1.0, description="Decay of the mean squared gradient."
    )
    epsilon: float = Field(
        default=1e-8, gt=0.0, description="Added to the root of the mean squared gradient."
    )
    weight_decay: float = Field(
        default=0.1,
        ge=0.0,
        description="Decoupled decay per unit of learning rate, on tensors of 2 or 3 dimensions.",
    )
