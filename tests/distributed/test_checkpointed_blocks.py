"""Blocks whose activations are made again train to the same losses under every backend."""

from __future__ import annotations

from typing import Any

import pytest

BACKENDS = [
    "training.backend=ddp",
    "training.backend=fsdp2",
    "training.backend=fsdp2,training.precision=bf16",
    *(f"training.backend=deepspeed,training.zero_stage={stage}" for stage in (1, 3)),
]
AGAIN = "training.activation_checkpointing=true"


@pytest.fixture(scope="module")
def trained(
    study_text: str, tmp_path_factory: pytest.TempPathFactory, gangs: Any
) -> dict[str, Any]:
    study = tmp_path_factory.mktemp("study") / "tiny.toml"
    study.write_text(study_text.replace("\nsteps = 6", "\nsteps = 3"))
    requests = [f"muon,{backend}{more}" for backend in BACKENDS for more in ("", f",{AGAIN}")]
    return gangs.train(study, [{"request": request} for request in requests], workers=2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_activations_made_again_change_no_loss(trained: dict[str, Any], backend: str) -> None:
    kept, again = trained[f"muon,{backend}"], trained[f"muon,{backend},{AGAIN}"]
    for one, other in zip(kept["reports"], again["reports"], strict=True):
        for loss in ("train_loss", "validation_loss"):
            assert one[loss] == other[loss], f"{loss} at step {one['step']}"
