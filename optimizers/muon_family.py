"""The settings that every Muon here has: its own, and those of the AdamW beside it."""

from __future__ import annotations

from pydantic import Field

from optimizers.routing import RouteRule
from optimizers.spec import OptimizerSpec

# The seed study runs its auxiliary AdamW at a tenth of Muon's rate.
_AUXILIARY_LR_RATIO = 0.1


class MuonFamilySpec(OptimizerSpec):
    """Momentum, decay and routes of the matrices; everything of the auxiliary AdamW."""

    kind: str  # a literal in each of them; named here for its place before the settings
    momentum: float = Field(default=0.95, ge=0.0, lt=1.0, description="Decay mu of the momentum.")
    weight_decay: float = Field(
        default=0.1,
        ge=0.0,
        description="Decoupled decay of the matrices per unit of learning rate.",
    )
    include_router: bool = Field(default=False, description="Give the MoE router to Muon as well.")
    routes: tuple[RouteRule, ...] = Field(
        default=(), description="Rules tried before the default ones; each must match something."
    )
    aux_lr: float | None = Field(
        default=None,
        gt=0.0,
        description="Learning rate of the AdamW part; default a tenth of lr, as in the seed study.",
    )
    aux_beta1: float = Field(default=0.9, ge=0.0, lt=1.0, description="AdamW part: beta1.")
    aux_beta2: float = Field(default=0.95, ge=0.0, lt=1.0, description="AdamW part: beta2.")
    aux_epsilon: float = Field(default=1e-8, gt=0.0, description="AdamW part: epsilon.")
    aux_weight_decay: float = Field(
        default=0.1, ge=0.0, description="AdamW part: decoupled weight decay of its matrices."
    )

    @property
    def auxiliary_lr(self) -> float:
        """The AdamW part's learning rate, with the default resolved."""
        return self.lr * _AUXILIARY_LR_RATIO if self.aux_lr is None else self.aux_lr
