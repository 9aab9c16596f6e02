"""The settings of the peer inside DeepSpeed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from optimizers.routing import RouteRule
from optimizers.spec import OptimizerSpec


class DeepSpeedMuonSpec(OptimizerSpec):
    """DeepSpeed's own Muon, routed as `muon` is; needs the backend deepspeed.

    What it does not let one set: Nesterov momentum, five steps, one set of coefficients, and the
    factor sqrt(max(1, rows / columns)) of the weight as it is stored (experts: inputs by outputs).
    From ZeRO stage 1 on it clips the orthogonalised update, so `training.clip_norm` must be 0.
    Its Newton-Schulz is compiled for every shape, which takes minutes on a CPU;
    `TORCHDYNAMO_DISABLE=1` in the environment runs it as it is written.
    """

    kind: Literal["deepspeed_muon"] = "deepspeed_muon"
    momentum: float = Field(default=0.95, ge=0.0, lt=1.0, description="Decay of the momentum.")
    ns_method: Literal["gram", "standard"] = Field(
        default="gram",
        description="gram: fp16, or fp32 where there is none. standard: bf16.",
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
