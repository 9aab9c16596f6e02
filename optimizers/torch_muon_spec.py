"""The settings of the peer `torch.optim.Muon`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from optimizers.routing import RouteRule
from optimizers.spec import OptimizerSpec


class TorchMuonSpec(OptimizerSpec):
    """`torch.optim.Muon`, matrix by matrix and in bfloat16, routed as `muon` is."""

    kind: Literal["torch_muon"] = "torch_muon"
    momentum: float = Field(default=0.95, ge=0.0, lt=1.0, description="Decay of the momentum.")
    nesterov: bool = Field(default=True, description="Nesterov momentum.")
    num_steps: int = Field(default=5, ge=1, le=50, description="Newton-Schulz steps.")
    scale: Literal["original", "match_rms"] = Field(
        default="original", description="Factor by shape: sqrt(max(1, m/n)) or 0.2 sqrt(max(m, n))."
    )
    weight_decay: float = Field(
        default=0.1,
        ge=0.0,
        description="Decoupled decay of the matrices per unit of learning rate.",
    )
    include_router: bool = Field(default=False, description="Give the MoE router to Muon as well.")
    routes: tuple[RouteRule, ...] = Field(
        default=(), description="Rules tried before the default ones; each must match something."
    )
    input_first: tuple[str, ...] = Field(
        default=("*.experts.*",),
        description="Patterns of weights stored as (inputs, outputs); they are passed transposed.",
    )
    aux_lr: float | None = Field(
        default=None,
        gt=0.0,
        description="Learning rate of the AdamW part; by default a tenth of lr.",
    )
    aux_beta1: float = Field(default=0.9, ge=0.0, lt=1.0, description="AdamW part: beta1.")
    aux_beta2: float = Field(default=0.95, ge=0.0, lt=1.0, description="AdamW part: beta2.")
    aux_epsilon: float = Field(default=1e-8, gt=0.0, description="AdamW part: epsilon.")
    aux_weight_decay: float = Field(
        default=0.1, ge=0.0, description="AdamW part: decoupled weight decay of its matrices."
    )
