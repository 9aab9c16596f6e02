"""Optimizers of others in real gangs: one on our base under every backend, torch's under ddp."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

VARIANTS = """
[[variants]]
name = "mine"
optimizer = { kind = "external", path = "somebodys_optimizer:SignMomentum", lr = 0.01 }

[[variants]]
name = "theirs"
optimizer = { kind = "external", path = "pytorch_optimizer:ADOPT", lr = 0.01 }

[analysis]"""
MINE = {
    "ddp": "mine,training.backend=ddp",
    "fsdp2": "mine,training.backend=fsdp2",
    "zero1": "mine,training.backend=deepspeed,training.zero_stage=1",
    "zero3": "mine,training.backend=deepspeed,training.zero_stage=3",
}
THEIRS = "theirs,training.backend=ddp"
# fp32 sums in another order; 4e-7 measured.
TOLERANCE = 5e-6


@pytest.fixture(scope="module")
def study(study_text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study's other backends refuse torch's: so each trial names its variant alone."""
    path = tmp_path_factory.mktemp("study") / "external.toml"
    path.write_text(study_text.replace("\n[analysis]", VARIANTS))
    return path


@pytest.fixture(scope="module")
def only_mine(study: Path) -> Path:
    first, rest = study.read_text().split('[[variants]]\nname = "theirs"')
    path = study.with_name("mine.toml")
    path.write_text(first + rest[rest.index("[analysis]") :])
    return path


@pytest.fixture(scope="module")
def alone(study: Path, gangs: Any) -> dict[str, Any]:
    found: dict[str, Any] = gangs.train(
        study, [{"request": MINE["ddp"]}, {"request": THEIRS}], workers=1
    )
    return found


def assert_same(run: Any, expected: Any) -> None:
    for found, wanted in zip(run["reports"], expected["reports"], strict=True):
        assert found["validation_loss"] == pytest.approx(wanted["validation_loss"], rel=TOLERANCE)
    assert run["reports"][-1]["validation_loss"] < run["reports"][0]["validation_loss"] - 0.05


def test_one_on_our_base_runs_under_every_backend(
    only_mine: Path, gangs: Any, alone: dict[str, Any]
) -> None:
    runs = gangs.train(only_mine, [{"request": text} for text in MINE.values()], workers=2)
    for run in runs.values():
        assert_same(run, alone[MINE["ddp"]])


def test_torchs_own_kind_runs_with_two_workers_and_goes_on_to_the_last_bit(
    study: Path, gangs: Any, alone: dict[str, Any], tmp_path: Path
) -> None:
    kept = {"checkpoint_every_minutes": 0.0, "checkpoint_every_steps": 3}
    trials = [
        {"request": THEIRS, "checkpoints": str(tmp_path), **kept},
        {"request": THEIRS, "resume_from": str(tmp_path / "step-00000003")},
    ]
    whole, resumed = gangs.train_in_order(study, trials, workers=2)
    assert_same(whole, alone[THEIRS])
    losses = [report["validation_loss"] for report in whole["reports"]]
    assert [report["validation_loss"] for report in resumed["reports"]] == losses[1:]
    (continued,) = gangs.train_in_order(study, trials[1:], workers=1)
    assert continued["reports"][-1]["validation_loss"] == pytest.approx(losses[-1], rel=TOLERANCE)
