"""DeepSpeed's own Muon as a variant: two real workers, every ZeRO stage, in one gang."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.study.load import load_study

PEER = """
[[variants]]
name = "peer"
optimizer = { kind = "deepspeed_muon", lr = 0.02, aux_lr = 0.004 }

[analysis]"""
STAGES = (0, 1, 2, 3)


def request(stage: int) -> str:
    return f"peer,training.backend=deepspeed,training.zero_stage={stage},training.clip_norm=0"


def with_peer(study_text: str, path: Path) -> Path:
    path.write_text(study_text.replace("\n[analysis]", PEER))
    return path


@pytest.fixture(scope="module")
def runs(study_text: str, gangs: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    study = with_peer(study_text, tmp_path_factory.mktemp("study") / "peer.toml")
    found: dict[str, Any] = gangs.train(
        study, [{"request": request(stage)} for stage in STAGES], workers=2
    )
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_the_loss_falls_and_every_group_moves(runs: dict[str, Any], stage: int) -> None:
    run = runs[request(stage)]
    first, *_, last = run["reports"]
    assert last["validation_loss"] < first["validation_loss"] - 0.1
    preflight = run["outcome"]["preflight"]
    assert preflight["zero_stage"] == stage
    assert preflight["gradient_clipping"] == 0
    assert all(preflight["moved"].values())
    assert last["counters"] == {"optimizer_steps": last["step"], "skipped_steps": 0}


@pytest.mark.parametrize("stage", STAGES)
def test_the_router_is_left_to_adamw(runs: dict[str, Any], stage: int) -> None:
    routes = {r["name"]: r["algorithm"] for r in runs[request(stage)]["outcome"]["routes"]}
    assert all(algorithm == "adamw" for name, algorithm in routes.items() if "router" in name)
    assert all(algorithm == "muon" for name, algorithm in routes.items() if ".experts." in name)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["training.clip_norm=0"], "runs inside DeepSpeed"),
        (["training.backend=deepspeed", "training.zero_stage=2"], "orthogonalised update"),
    ],
)
def test_a_study_that_would_measure_something_else_is_refused(
    study_text: str, tmp_path: Path, settings: list[str], sentence: str
) -> None:
    study = with_peer(study_text, tmp_path / "peer.toml")
    with pytest.raises(UserError, match=sentence):
        load_study(study, settings)


@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_sharded_stage_learns_as_whole_weights_do(runs: dict[str, Any], stage: int) -> None:
    whole, sharded = (runs[request(s)]["reports"][-1]["validation_loss"] for s in (0, stage))
    assert sharded == pytest.approx(whole, rel=1e-4)
