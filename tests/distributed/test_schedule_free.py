"""Every backend evaluates the average of the iterates, and trains on as if nobody had looked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

VARIANT = """
[[variants]]
name = "free"
schedule = { kind = "constant" }
optimizer = { kind = "schedule_free", lr = 0.02, warmup_steps = 2 }

[analysis]"""

BACKENDS = {
    "ddp": "training.backend=ddp",
    "fsdp2": "training.backend=fsdp2",
    **{f"zero{n}": f"training.backend=deepspeed,training.zero_stage={n}" for n in range(4)},
}
# fp32 sums in another order: 6e-7 measured. At y instead of x, or at a y that was not put back, the
# losses differ by 1e-3 and more.
TOLERANCE = 5e-6
SEEN = "training.evaluation_every=1"


def request(backend: str, *settings: str) -> str:
    return ",".join(("free", BACKENDS[backend], *settings))


@pytest.fixture(scope="module")
def study(study_text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "free.toml"
    path.write_text(
        study_text.replace("\n[analysis]", VARIANT).replace("windows = 20", "windows = 16")
    )
    return path


@pytest.fixture(scope="module")
def alone(study: Path, gangs: Any) -> Any:
    """One process on the plainest backend, evaluated after every step."""
    text = request("ddp", SEEN)
    return gangs.train(study, [{"request": text}], workers=1)[text]


@pytest.fixture(scope="module")
def trained(study: Path, gangs: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """By backend, two workers: evaluated seldom, and often; and gone on from a checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoints")
    kept = {"checkpoint_every_minutes": 0.0, "checkpoint_every_steps": 3}
    trials = [
        trial
        for name in BACKENDS
        for trial in (
            {"request": request(name), "checkpoints": str(folder / name), **kept},
            {"request": request(name, SEEN)},
            {"request": request(name), "resume_from": str(folder / name / "step-00000003")},
        )
    ]
    runs = iter(gangs.train_in_order(study, trials, workers=2))
    return {name: [next(runs) for _ in range(3)] for name in BACKENDS}


def losses(run: Any) -> dict[int, tuple[float, float | None]]:
    return {r["step"]: (r["validation_loss"], r["gradient_norm"]) for r in run["reports"]}


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_evaluates_the_average_as_one_process_does(
    alone: Any, trained: dict[str, Any], backend: str
) -> None:
    assert_same(trained[backend][1], alone)


def assert_same(run: Any, expected: Any) -> None:
    found = losses(run)
    assert found.keys() == losses(expected).keys()
    for step, (loss, norm) in losses(expected).items():
        assert found[step][0] == pytest.approx(loss, rel=TOLERANCE), step
        assert found[step][1] == (None if norm is None else pytest.approx(norm, rel=1e-4)), step


@pytest.mark.parametrize("backend", BACKENDS)
def test_how_often_it_is_evaluated_changes_no_bit(trained: dict[str, Any], backend: str) -> None:
    seldom, often = (losses(run) for run in trained[backend][:2])
    assert {step: often[step] for step in seldom} == seldom
    assert len(seldom) < len(often)


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_goes_on_from_a_checkpoint_to_the_last_bit(
    trained: dict[str, Any], backend: str
) -> None:
    whole, _, resumed = (losses(run) for run in trained[backend])
    assert resumed == {step: found for step, found in whole.items() if step >= 3}


CHAIN = [("ddp", 2), ("zero3", 4), ("fsdp2", 2), ("zero1", 4), ("zero2", 2), ("zero0", 1)]


@pytest.mark.faults
def test_every_backend_goes_on_from_the_checkpoint_of_another_with_other_workers(
    study: Path, gangs: Any, alone: Any, tmp_path: Path
) -> None:
    for step, (backend, workers) in enumerate(CHAIN, start=1):
        trial = {
            "request": request(backend, SEEN),
            "resume_from": str(tmp_path / str(step - 1)) if step > 1 else None,
            "save_to": str(tmp_path / str(step)),
            "stop_at_step": step,
        }
        (run,) = gangs.train_in_order(study, [trial], workers=workers)
        assert losses(run)[step][0] == pytest.approx(losses(alone)[step][0], rel=1e-5)


@pytest.mark.faults
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_bf16_and_uneven_parts_evaluate_the_average_too(
    study: Path, gangs: Any, workers: int
) -> None:
    bf16 = "training.precision=bf16"
    texts = [request(name, SEEN, *more) for name in BACKENDS for more in ((), (bf16,))]
    runs = gangs.train(study, [{"request": text} for text in texts], workers=workers)
    for more, tolerance in (((), TOLERANCE), ((bf16,), 2e-4)):
        expected = losses(runs[request("ddp", SEEN, *more)])
        for name in BACKENDS:
            for step, (loss, _) in losses(runs[request(name, SEEN, *more)]).items():
                assert loss == pytest.approx(expected[step][0], rel=tolerance), (name, step)
