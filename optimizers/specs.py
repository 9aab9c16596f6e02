"""The settings of the optimizers. A study file is validated by them without importing torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from optimizers.coefficients import SCHEDULES, find_schedule
from optimizers.routing import MatrixSplit, RouteRule

FormChoice = Literal["auto", "standard", "gram"]
DtypeChoice = Literal["auto", "fp32", "bf16", "fp16"]
Scale = Literal["original", "match_rms", "spectral", "none"]

# What AlgoPerf (Dahl et al. 2023, arXiv 2306.07179) searches for AdamW and NAdamW; the highest rate
# is doubled, because Wen et al. 2025 (arXiv 2509.02046) found the best so close to it, at 8e-3.
ADAM_SPACE: dict[str, dict[str, Any]] = {
    "lr": {"kind": "loguniform", "low": 1e-4, "high": 2e-2},
    "weight_decay": {"kind": "loguniform", "low": 5e-3, "high": 1.0},
}
# AdamW's root mean square of an update, which `match_rms` gives to Muon's (arXiv 2502.16982).
MATCHED_RMS = 0.2

# The seed study runs its auxiliary AdamW at a tenth of Muon's rate.
_AUXILIARY_LR_RATIO = 0.1


class OptimizerSpec(BaseModel):
    """Base of all optimizer specifications: frozen, and unknown fields are errors.

    A subclass declares `kind: Literal["its_name"]`, which the registry maps to its build function.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    default_space: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """What `space = "default"` of a variant searches: dimensions as a study file writes them, with
    the source of their borders beside them."""

    lr: float = Field(
        gt=0.0,
        description="Peak learning rate, before the schedule and before any scale by shape.",
    )


class AdamWSpec(OptimizerSpec):
    """AdamW (Loshchilov and Hutter 2019) with decoupled weight decay on matrices only."""

    default_space: ClassVar[Mapping[str, Mapping[str, Any]]] = ADAM_SPACE

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
        description="Decoupled decay per unit of learning rate, on tensors of two or more "
        "dimensions.",
    )
    cautious: bool = Field(
        default=False,
        # Left out where it is the default, so that the keys of older trials stay.
        exclude_if=lambda masked: not masked,
        description="Mask what would move an element against its gradient (Liang et al. 2024), and "
        "scale up the rest by the share of the parameter's elements that it leaves.",
    )


class MatrixFamilySpec(OptimizerSpec):
    """Decay and routes of the matrices; everything of the auxiliary AdamW."""

    auxiliary_lr_ratio: ClassVar[float] = _AUXILIARY_LR_RATIO

    kind: str  # a literal in each of them; named here for its place before the settings
    weight_decay: float = Field(
        default=0.1,
        ge=0.0,
        description="Decoupled decay of the matrices per unit of learning rate.",
    )
    include_router: bool = Field(
        default=False, description="Give the MoE router to the optimizer of the matrices, too."
    )
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
        return self.lr * self.auxiliary_lr_ratio if self.aux_lr is None else self.aux_lr


class MuonFamilySpec(MatrixFamilySpec):
    """What all Muons have."""

    momentum: float = Field(default=0.95, ge=0.0, lt=1.0, description="Decay mu of the momentum.")


class MuonSpec(MuonFamilySpec):
    """Muon (Jordan 2024) for matrices, AdamW for embeddings, head, norms, biases and the router."""

    # A factor of ten to both sides of 0.02, the rate of the source, and of 1e-3 for the AdamW part.
    default_space: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "lr": {"kind": "loguniform", "low": 2e-3, "high": 0.2},
        "aux_lr": {"kind": "loguniform", "low": 1e-4, "high": 1e-2},
    }

    kind: Literal["muon"] = "muon"
    momentum_kind: Literal["ema", "heavy_ball"] = Field(
        default="ema",
        description="ema: M <- mu M + (1 - mu) G. heavy_ball: M <- mu M + G (the same direction).",
    )
    nesterov: bool = Field(
        default=True, description="Orthogonalise mu M + (1 - mu) G instead of the momentum M."
    )
    num_steps: int = Field(default=5, ge=1, le=50, description="Newton-Schulz steps.")
    schedule: str = Field(
        default="jordan", description=f"Newton-Schulz coefficients: {', '.join(SCHEDULES)}."
    )
    scale: Scale = Field(
        default="original",
        description="Factor on an (m, n) update: original sqrt(max(1, m/n)), match_rms "
        "0.2 sqrt(max(m, n)), spectral sqrt(m/n), none 1.",
    )
    ns_dtype: DtypeChoice = Field(
        default="auto", description="Dtype of the Newton-Schulz products; auto asks the hardware."
    )
    ns_form: FormChoice = Field(
        default="auto", description="Form of the iteration; auto takes the fewest operations."
    )
    starved_matrices: Literal["orthogonalize", "skip"] = Field(
        default="orthogonalize",
        # Left out where it is the default, so that the keys of older trials stay.
        exclude_if=lambda policy: policy == "orthogonalize",
        description="A matrix whose whole gradient is zero, as of an expert without a token: "
        "orthogonalize its fading momentum all the same, or skip it (momentum and weight decay go "
        "on, the weights are not moved).",
    )
    normuon: bool = Field(
        default=False,
        exclude_if=lambda on: not on,
        description="Divide each neuron's part of the orthogonalised update (a row of outputs x "
        "inputs) by the root of its mean square over time, and give the whole its norm back "
        "(NorMuon, arXiv 2510.05491); with scale = match_rms a root mean square of exactly 0.2.",
    )
    normuon_beta2: float = Field(
        default=0.95,
        ge=0.0,
        lt=1.0,
        exclude_if=lambda beta2: beta2 == 0.95,
        description="Decay of the mean square of each neuron; without normuon it does nothing.",
    )
    hyperball: bool = Field(
        default=False,
        exclude_if=lambda on: not on,
        description="Keep each matrix's Frobenius norm R: W <- R normalised(W - lr R O / |O|) "
        "(Wen et al. 2025, MuonH); the scale by shape and weight_decay then do nothing.",
    )
    qk_clip: float | None = Field(
        default=None,
        gt=0.0,
        exclude_if=lambda bound: bound is None,
        description="Largest attention logit: after a step that saw a larger one, the head's "
        "queries and keys are scaled down by the root of the ratio (Kimi K2, arXiv 2507.20534: "
        "100). The model must measure its logits, which costs a second product.",
    )
    batch_invariant: bool = Field(
        default=False,
        description="Orthogonalise matrices one by one: the same bits under any sharding, slow.",
    )
    splits: tuple[MatrixSplit, ...] | None = Field(
        default=None,
        description="Fused weights that are several matrices (QKV, heads); by default "
        "*.qkv.weight is three, an empty list splits nothing.",
    )
    input_first: tuple[str, ...] = Field(
        default=("*.experts.*",),
        description="Patterns of weights stored as (inputs, outputs): the scale by shape takes "
        "m = outputs and n = inputs for every weight.",
    )
    exchange: Literal["auto", "replicated", "owner", "node"] = Field(
        default="auto",
        description="How workers share the work when each holds whole matrices: replicated (each "
        "computes all), owner (each computes its share), node (the workers of each node share it "
        "among themselves), auto (owner, or node where that sends fewer bytes between nodes).",
    )

    @model_validator(mode="after")
    def _schedule_is_long_enough(self) -> MuonSpec:
        find_schedule(self.schedule).steps(self.num_steps)
        return self


def exchange_of(spec: OptimizerSpec) -> str | None:
    """How the workers share whole matrices; None for an optimizer that does not."""
    exchange: str | None = getattr(spec, "exchange", None)
    return exchange


def update_scale(scale: Scale, *, outputs: int, inputs: int) -> float:
    """The factor on the orthogonalised update of a weight with `m` outputs and `n` inputs.

    `original` (Jordan 2024), `match_rms` (Moonshot, arXiv 2502.16982: AdamW's root mean square of
    about 0.2), `spectral` (Bernstein 2025), `none`.
    """
    if scale == "original":
        return math.sqrt(max(1.0, outputs / inputs))
    if scale == "match_rms":
        return MATCHED_RMS * math.sqrt(max(outputs, inputs))
    if scale == "spectral":
        return math.sqrt(outputs / inputs)
    return 1.0
