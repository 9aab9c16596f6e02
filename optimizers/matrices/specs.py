"""The settings of the optimizers of whole matrices beside Muon. Read without torch."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from optimizers.coefficients import SCHEDULES, find_schedule
from optimizers.routing import MatrixSplit
from optimizers.specs import DtypeChoice, FormChoice, MatrixFamilySpec, OptimizerSpec

Exchange = Literal["auto", "replicated", "owner", "node"]
_EXCHANGE = (
    "How workers share the work when each holds whole matrices: replicated (each computes all), "
    "owner (each computes its share), node (the workers of each node share it among themselves), "
    "auto (owner, or node where that sends fewer bytes between nodes)."
)
_SPLITS = (
    "Fused weights that are several matrices (QKV, heads); by default *.qkv.weight is three, an "
    "empty list splits nothing."
)
_BATCH_INVARIANT = "Compute matrices one by one: the same bits under any sharding, slow."


class PreconditionedSpec(MatrixFamilySpec):
    """Settings of SOAP and Shampoo: statistics of both sides of a matrix, and the AdamW part."""

    # Its steps have the size of AdamW's, so that the AdamW part takes the same rate.
    auxiliary_lr_ratio: ClassVar[float] = 1.0

    kind: str
    precondition_frequency: int = Field(
        default=10, ge=1, description="Updates between two refreshes of the preconditioner."
    )
    max_precond_dim: int = Field(
        default=10_000,
        ge=1,
        description="A side longer than this is not preconditioned (the identity instead).",
    )
    epsilon: float = Field(
        default=1e-8, gt=0.0, description="Added to the root of the mean squared gradient."
    )
    aux_lr: float | None = Field(
        default=None, gt=0.0, description="Learning rate of the AdamW part; default lr."
    )
    splits: tuple[MatrixSplit, ...] | None = Field(default=None, description=_SPLITS)
    batch_invariant: bool = Field(default=False, description=_BATCH_INVARIANT)
    exchange: Exchange = Field(default="auto", description=_EXCHANGE)


class SoapSpec(PreconditionedSpec):
    """SOAP (Vyas et al. 2024) for matrices, AdamW for embeddings, head, norms, biases, router."""

    # The rates around 3.16e-3, the best of the paper's sweep (arXiv 2409.11321, appendix A).
    default_space: ClassVar[dict[str, dict[str, Any]]] = {
        "lr": {"kind": "loguniform", "low": 3e-4, "high": 3e-2},
        "weight_decay": {"kind": "loguniform", "low": 0.01, "high": 1.0},
    }

    kind: Literal["soap"] = "soap"
    beta1: float = Field(default=0.95, ge=0.0, lt=1.0, description="Decay of the mean gradient.")
    beta2: float = Field(
        default=0.95, ge=0.0, lt=1.0, description="Decay of the mean squared gradient."
    )
    shampoo_beta: float | None = Field(
        default=None,
        ge=0.0,
        lt=1.0,
        description="Decay of the statistics of both sides, G G' and G' G; default beta2.",
    )

    @property
    def statistics_beta(self) -> float:
        """The decay of the statistics, with the default resolved."""
        return self.beta2 if self.shampoo_beta is None else self.shampoo_beta


class ShampooSpec(PreconditionedSpec):
    """Shampoo (Gupta et al. 2018) with grafting for matrices, AdamW for the rest, as under SOAP."""

    # With grafting the rate is Adam's: the borders of SOAP, whose paper sweeps both alike.
    default_space: ClassVar[dict[str, dict[str, Any]]] = {
        "lr": {"kind": "loguniform", "low": 3e-4, "high": 3e-2},
        "weight_decay": {"kind": "loguniform", "low": 0.01, "high": 1.0},
    }

    kind: Literal["shampoo"] = "shampoo"
    beta1: float = Field(default=0.9, ge=0.0, lt=1.0, description="Decay of the mean gradient.")
    beta2: float = Field(
        default=0.95,
        ge=0.0,
        le=1.0,
        description="Decay of the statistics of both sides; 1 sums them, as in the first paper.",
    )
    # Below 1e-4 the root of what a statistic lacks is one of rounding, in float32: two ways to sum
    # the same gradient then differ by 1 % of the steps (1e-6), at 1e-4 by 0.01 %.
    matrix_epsilon: float = Field(
        default=1e-4,
        gt=0.0,
        description="Added to the eigenvalues of the statistics, in units of the largest.",
    )
    grafting: Literal["adam", "none"] = Field(
        default="adam", description="adam: the step has the norm of Adam's. none: its own."
    )
    grafting_beta2: float = Field(
        default=0.95,
        ge=0.0,
        lt=1.0,
        description="Decay of the mean squared gradient of the Adam that gives the norm.",
    )


class ScionSpec(OptimizerSpec):
    """Scion (Pethick et al. 2025): every step has a fixed norm, chosen for its layer; no AdamW."""

    # Around 2^-12, the rate of the authors' language model with radius 50 (arXiv 2502.07529).
    default_space: ClassVar[dict[str, dict[str, Any]]] = {
        "lr": {"kind": "loguniform", "low": 3e-5, "high": 2e-3},
        "momentum": {"kind": "uniform", "low": 0.8, "high": 0.98},
    }

    kind: Literal["scion"] = "scion"
    momentum: float = Field(
        default=0.9,
        ge=0.0,
        lt=1.0,
        description="Decay of the mean gradient, 1 minus the authors' alpha.",
    )
    constrained: bool = Field(
        default=True,
        description="true: W <- (1 - lr) W - lr radius D, which keeps weights within the radius. "
        "false: W <- W - lr radius D.",
    )
    radius: float = Field(
        default=50.0, gt=0.0, description="Of hidden matrices, in the norm of their step."
    )
    sign_radius: float = Field(
        default=3000.0, gt=0.0, description="Of embedding and head, in the norm of their step."
    )
    vector_radius: float = Field(
        default=1.0, gt=0.0, description="Of vectors, as their root mean square."
    )
    sign_parameters: tuple[str, ...] = Field(
        default=("*embedding*", "*embed_tokens*", "head.*", "*.head.*", "*lm_head*"),
        description="Patterns of matrices that step by the sign; others are orthogonalised.",
    )
    num_steps: int = Field(default=5, ge=1, le=50, description="Newton-Schulz steps.")
    schedule: str = Field(
        default="jordan", description=f"Newton-Schulz coefficients: {', '.join(SCHEDULES)}."
    )
    ns_dtype: DtypeChoice = Field(
        default="auto", description="Dtype of the Newton-Schulz products; auto asks the hardware."
    )
    ns_form: FormChoice = Field(
        default="auto", description="Form of the iteration; auto takes the fewest operations."
    )
    splits: tuple[MatrixSplit, ...] | None = Field(default=None, description=_SPLITS)
    input_first: tuple[str, ...] = Field(
        default=("*.experts.*",),
        description="Patterns of weights stored as (inputs, outputs): the scale by shape takes "
        "m = outputs and n = inputs for every weight.",
    )
    batch_invariant: bool = Field(default=False, description=_BATCH_INVARIANT)
    exchange: Exchange = Field(default="auto", description=_EXCHANGE)

    @model_validator(mode="after")
    def _schedule_is_long_enough(self) -> ScionSpec:
        find_schedule(self.schedule).steps(self.num_steps)
        return self
