"""The settings of the peers: other people's Muons, under our names and routes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from optimizers.specs import MuonFamilySpec


class TorchMuonSpec(MuonFamilySpec):
    """`torch.optim.Muon`, matrix by matrix and in bfloat16, routed as `muon` is.

    It knows no splits: a fused QKV is one matrix, of which `muon` makes three by default.
    """

    kind: Literal["torch_muon"] = "torch_muon"
    nesterov: bool = Field(default=True, description="Nesterov momentum.")
    num_steps: int = Field(default=5, ge=1, le=50, description="Newton-Schulz steps.")
    scale: Literal["original", "match_rms"] = Field(
        default="original", description="Factor by shape: sqrt(max(1, m/n)) or 0.2 sqrt(max(m, n))."
    )
    input_first: tuple[str, ...] = Field(
        default=("*.experts.*",),
        description="Patterns of weights stored as (inputs, outputs); they are passed transposed.",
    )


class DeepSpeedMuonSpec(MuonFamilySpec):
    """DeepSpeed's own Muon, routed as `muon` is but without splits; needs the backend deepspeed.

    What it does not let one set: Nesterov momentum, five steps, one set of coefficients, and the
    factor sqrt(max(1, rows / columns)) of the weight as it is stored (experts: inputs by outputs).
    From ZeRO stage 1 on it clips the orthogonalised update, so `training.clip_norm` must be 0.
    Its Newton-Schulz is compiled for every shape, which takes minutes on a CPU;
    `TORCHDYNAMO_DISABLE=1` in the environment runs it as it is written.
    """

    kind: Literal["deepspeed_muon"] = "deepspeed_muon"
    ns_method: Literal["gram", "standard"] = Field(
        default="gram",
        description="gram: fp16, or fp32 where there is none. standard: bf16.",
    )
