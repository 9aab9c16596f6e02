"""The settings of the peer `torch.optim.Muon`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from optimizers.muon_family import MuonFamilySpec


class TorchMuonSpec(MuonFamilySpec):
    """`torch.optim.Muon`, matrix by matrix and in bfloat16, routed as `muon` is."""

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
