"""A trial saved by one gang goes on in another, on another backend: one trajectory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

# fp32 sums in another order, and Newton-Schulz in fp32; a lost or mixed state shows at 1e-3.
RELATIVE_TOLERANCE = 1e-5

# Every backend saves and loads, between different numbers of workers; each link takes one step.
LINKS = [
    ("ddp", 2, "training.backend=ddp"),
    ("zero1", 4, "training.backend=deepspeed,training.zero_stage=1"),
    ("fsdp2", 2, "training.backend=fsdp2"),
    ("zero3", 4, "training.backend=deepspeed,training.zero_stage=3"),
    ("zero2", 2, "training.backend=deepspeed,training.zero_stage=2"),
    ("zero0", 1, "training.backend=deepspeed,training.zero_stage=0"),
    ("ddp", 4, "training.backend=ddp"),
]
NAMES = [f"{name}-{workers}" for name, workers, _ in LINKS]
VARIANTS = ("adamw", "muon")
SCHEDULE = f"training.steps={len(LINKS)},training.evaluation_every=1"


@pytest.fixture(scope="module")
def uninterrupted(study: Path, gangs: Any) -> dict[str, Any]:
    """The reports of one process on one backend, by variant."""
    requests = {variant: f"{variant},{SCHEDULE}" for variant in VARIANTS}
    trained = gangs.train(study, [{"request": r} for r in requests.values()], workers=1)
    return {variant: trained[request] for variant, request in requests.items()}


@pytest.fixture(scope="module")
def links(study: Path, gangs: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What each link reports, by variant."""
    found, folder = [], tmp_path_factory.mktemp("checkpoints")
    for step, (_, workers, settings) in enumerate(LINKS, start=1):
        trials = {
            variant: {
                "request": f"{variant},{SCHEDULE},{settings}",
                "resume_from": str(folder / f"{variant}-{step - 1}") if step > 1 else None,
                "save_to": str(folder / f"{variant}-{step}"),
                "stop_at_step": step,
            }
            for variant in VARIANTS
        }
        trained = gangs.train(study, list(trials.values()), workers=workers)
        found.append({variant: trained[trial["request"]] for variant, trial in trials.items()})
    return found


@pytest.fixture(scope="module")
def study(study_text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "tiny.toml"
    path.write_text(study_text)
    return path


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("link", range(len(LINKS)), ids=NAMES)
def test_every_link_continues_the_trajectory_of_one_process(
    uninterrupted: dict[str, Any], links: list[Any], variant: str, link: int
) -> None:
    loaded, trained = links[link][variant]["reports"]
    for report in (loaded, trained):
        expected = uninterrupted[variant]["reports"][report["step"]]
        assert report["validation_loss"] == pytest.approx(
            expected["validation_loss"], rel=RELATIVE_TOLERANCE
        )
        assert report["learning_rate"] == expected["learning_rate"]
    assert (loaded["step"], trained["step"]) == (link, link + 1)
    assert trained["train_loss"] == pytest.approx(
        uninterrupted[variant]["reports"][link + 1]["train_loss"], rel=RELATIVE_TOLERANCE
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_last_link_completes_the_trial_with_its_certificates_and_counts(
    uninterrupted: dict[str, Any], links: list[Any], variant: str
) -> None:
    *stopped, last = (link[variant] for link in links)
    assert {link["outcome"]["outcome"] for link in stopped} == {"stopped"}
    assert last["outcome"]["outcome"] == "completed"
    for certificate in ("initial_parameters_sha256", "batches_sha256"):
        assert last["outcome"][certificate] == uninterrupted[variant]["outcome"][certificate]
    counters = last["reports"][-1]["counters"]
    assert counters["optimizer_steps"] == len(LINKS)
    assert counters["newton_schulz_steps"] == (len(LINKS) if variant == "muon" else 0)
