"""The specification of Muon."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from optimizers.coefficients import SCHEDULES, find_schedule
from optimizers.muon_family import MuonFamilySpec
from optimizers.routing import MatrixSplit
from optimizers.spec import DtypeChoice, FormChoice

Scale = Literal["original", "match_rms", "spectral", "none"]


class MuonSpec(MuonFamilySpec):
    """Muon (Jordan 2024) for matrices, AdamW for embeddings, head, norms, biases and the router."""

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
    exchange: Literal["auto", "replicated", "owner"] = Field(
        default="auto",
        description="How workers share the work when each holds whole matrices: replicated (each "
        "computes all), owner (each computes its share), auto.",
    )

    @model_validator(mode="after")
    def _schedule_is_long_enough(self) -> MuonSpec:
        find_schedule(self.schedule).steps(self.num_steps)
        return self


def update_scale(scale: Scale, *, outputs: int, inputs: int) -> float:
    """The factor on the orthogonalised update of a weight with `m` outputs and `n` inputs.

    `original` (Jordan 2024), `match_rms` (Moonshot, arXiv 2502.16982: AdamW's root mean square of
    about 0.2), `spectral` (Bernstein 2025), `none`.
    """
    if scale == "original":
        return math.sqrt(max(1.0, outputs / inputs))
    if scale == "match_rms":
        return 0.2 * math.sqrt(max(outputs, inputs))
    if scale == "spectral":
        return math.sqrt(outputs / inputs)
    return 1.0
