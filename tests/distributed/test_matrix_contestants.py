"""SOAP, Scion and Muon's options under every backend, and their state from gang to gang.

Through the training loop, in real processes with real gloo, against one process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

VARIANTS = """
[[variants]]
name = "soap"
optimizer = { kind = "soap", lr = 0.004, precondition_frequency = 2 }

[[variants]]
name = "shampoo"
optimizer = { kind = "shampoo", lr = 0.004, precondition_frequency = 2 }

[[variants]]
name = "scion"
optimizer = { kind = "scion", lr = 0.0005, ns_dtype = "fp32" }

[[variants]]
name = "normuon"
optimizer = { kind = "muon", lr = 0.02, aux_lr = 0.004, ns_dtype = "fp32", normuon = true }

[[variants]]
name = "qk_clip"
optimizer = { kind = "muon", lr = 0.02, aux_lr = 0.004, ns_dtype = "fp32", qk_clip = 0.5 }

[[variants]]
name = "hyperball"
optimizer = { kind = "muon", lr = 0.02, aux_lr = 0.004, ns_dtype = "fp32", hyperball = true }

"""
NAMES = ("soap", "shampoo", "scion", "normuon", "hyperball", "qk_clip")
BACKENDS = {
    "ddp": "training.backend=ddp",
    "fsdp2": "training.backend=fsdp2",
    **{f"zero{n}": f"training.backend=deepspeed,training.zero_stage={n}" for n in range(4)},
}
# By default each contestant on a backend of whole and one of cut matrices; all pairs on demand.
FEW = [
    ("soap", "ddp"),
    ("soap", "zero2"),
    ("shampoo", "fsdp2"),
    ("scion", "ddp"),
    ("scion", "zero3"),
    ("normuon", "fsdp2"),
    ("hyperball", "zero1"),
    ("qk_clip", "ddp"),
    ("qk_clip", "zero3"),
]
ALL = [(name, backend) for name in NAMES for backend in BACKENDS]
# What fp32 sums in another order do; a lost row of state or a wrong norm shows at 1e-3.
TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def study(study_text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "tiny.toml"
    text = study_text.replace("[analysis]", VARIANTS + "[analysis]")
    for old, new in (
        ("\nsteps = 6", "\nsteps = 4"),
        ("evaluation_every = 3", "evaluation_every = 1"),
    ):
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def alone(study: Path, gangs: Any) -> dict[str, Any]:
    """What one process trains, by contestant."""
    requests = [{"request": f"{name},{BACKENDS['ddp']}"} for name in NAMES]
    return dict(zip(NAMES, gangs.train_in_order(study, requests, workers=1), strict=True))


def train(gangs: Any, study: Path, pairs: list[tuple[str, str]], *, workers: int) -> dict[Any, Any]:
    requests = [{"request": f"{name},{BACKENDS[backend]}"} for name, backend in pairs]
    return dict(zip(pairs, gangs.train_in_order(study, requests, workers=workers), strict=True))


def assert_same(found: Any, expected: Any) -> None:
    assert found["outcome"]["outcome"] == "completed"
    for left, right in zip(expected["reports"], found["reports"], strict=True):
        assert right["validation_loss"] == pytest.approx(left["validation_loss"], rel=TOLERANCE)
    first, *_, last = found["reports"]
    assert last["validation_loss"] < first["validation_loss"]


@pytest.fixture(scope="module")
def few(study: Path, gangs: Any) -> dict[Any, Any]:
    return train(gangs, study, FEW, workers=2)


@pytest.mark.parametrize(("name", "backend"), FEW)
def test_two_workers_take_the_steps_of_one(
    alone: dict[str, Any], few: dict[Any, Any], name: str, backend: str
) -> None:
    assert_same(few[name, backend], alone[name])


@pytest.mark.faults
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_every_backend_takes_the_steps_of_one_process(
    alone: dict[str, Any], study: Path, gangs: Any, workers: int
) -> None:
    for (name, _), found in train(gangs, study, ALL, workers=workers).items():
        assert_same(found, alone[name])


def test_whole_matrices_are_counted_and_so_are_the_bytes_of_their_owners(
    few: dict[Any, Any],
) -> None:
    counters = {pair: found["reports"][-1]["counters"] for pair, found in few.items()}
    for (name, _), counted in counters.items():
        assert counted["newton_schulz_steps"] == (0 if name in ("soap", "shampoo") else 4)
    # Gradients to the owner and results back, both in float32: the floor of data parallelism.
    soap = counters["soap", "ddp"]
    assert soap["bytes_floor_per_element"] == pytest.approx(4.0, rel=0.01)
    assert soap["bytes_sent"] == pytest.approx(soap["bytes_floor"], rel=0.05)


# A state of the owners' shapes goes from owners to owners elsewhere, and to one who has them all.
LINKS = [
    (2, "training.backend=ddp"),
    (4, "training.backend=deepspeed,training.zero_stage=1"),
    (1, "training.backend=fsdp2"),
    (2, "training.backend=deepspeed,training.zero_stage=3"),
]


@pytest.mark.parametrize("name", ["soap", "normuon"])
def test_a_trial_goes_on_from_gang_to_gang(
    alone: dict[str, Any], study: Path, gangs: Any, tmp_path: Path, name: str
) -> None:
    for step, (workers, settings) in enumerate(LINKS, start=1):
        trial = {
            "request": f"{name},{settings}",
            "resume_from": str(tmp_path / str(step - 1)) if step > 1 else None,
            "save_to": str(tmp_path / str(step)),
            "stop_at_step": step,
        }
        (found,) = gangs.train_in_order(study, [trial], workers=workers)
        loaded, trained = found["reports"]
        for report in (loaded, trained):
            expected = alone[name]["reports"][report["step"]]["validation_loss"]
            assert report["validation_loss"] == pytest.approx(expected, rel=TOLERANCE)
