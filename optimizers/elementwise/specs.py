"""The settings of the elementwise optimizers. A study file is read by them without torch."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from optimizers.specs import OptimizerSpec


class LionSpec(OptimizerSpec):
    """Lion (Chen et al. 2023) with decoupled weight decay on matrices only."""

    # A tenth to a third of AdamW's rate and three to ten times its decay: section 5 of the paper.
    default_space: ClassVar[dict[str, dict[str, Any]]] = {
        "lr": {"kind": "loguniform", "low": 1e-4, "high": 3e-3},
        "weight_decay": {"kind": "loguniform", "low": 0.1, "high": 3.0},
    }

    kind: Literal["lion"] = "lion"
    beta1: float = Field(
        default=0.9, ge=0.0, lt=1.0, description="Share of the momentum in the update's sign."
    )
    beta2: float = Field(default=0.99, ge=0.0, lt=1.0, description="Decay of the momentum.")
    weight_decay: float = Field(
        default=1.0,
        ge=0.0,
        description="Decoupled decay per unit of learning rate, on tensors of 2 or 3 dimensions.",
    )
