"""A loss that is not finite on one worker ends the trial on all of them, at its own step."""

from __future__ import annotations

from typing import Any

import pytest

BACKENDS = {
    "ddp, whole matrices": "muon,training.backend=ddp",
    "ddp, adamw": "adamw,training.backend=ddp",
    "zero0": "muon,training.backend=deepspeed",
    "zero2": "muon,training.backend=deepspeed,training.zero_stage=2",
    "zero3": "adamw,training.backend=deepspeed,training.zero_stage=3",
    "fsdp2": "muon,training.backend=fsdp2",
}


@pytest.fixture(scope="module")
def trained(study_text: str, gangs: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("study") / "tiny.toml"
    path.write_text(study_text)
    trials = [{"request": request, "wrong": "nan on worker 1"} for request in BACKENDS.values()]
    return gangs.train(path, trials, workers=2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_workers_nan_is_every_workers_divergence_at_once(
    trained: dict[str, Any], backend: str
) -> None:
    """The evaluations are at steps 3 and 6."""
    found = trained[BACKENDS[backend]]
    assert [report["step"] for report in found["reports"]] == [0, 2]
    first, last = found["reports"]
    assert last["train_loss"] is None
    assert last["counters"]["skipped_steps"] == 1
    assert last["counters"]["optimizer_steps"] == 1
    assert 0 < last["validation_loss"] < first["validation_loss"]  # of the weights of step 1
    outcome = found["outcome"]
    assert (outcome["outcome"], outcome["diverged_at_step"]) == ("diverged", 2)
