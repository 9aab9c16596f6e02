"""A trial saved by one gang goes on in another, on another backend: one trajectory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

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
LONGER = "training.steps=5,training.evaluation_every=1"
SCHEDULE = f"training.steps={len(LINKS)},training.evaluation_every=1"


@pytest.fixture(scope="module")
def uninterrupted(study: Path, gangs: Any) -> dict[str, Any]:
    """The reports of one process on one backend, by variant."""
    requests = {variant: f"{variant},{SCHEDULE}" for variant in VARIANTS}
    trained = gangs.train(study, [{"request": r} for r in requests.values()], workers=1)
    return {variant: trained[request] for variant, request in requests.items()}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def links(study: Path, gangs: Any, checkpoints: Path) -> list[Any]:
    """By variant what each link reports; and an undisturbed trial of it with a resumed one."""
    found, folder = [], checkpoints
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
        again = [
            trial
            for variant in VARIANTS
            for trial in disturbed(
                f"{variant},{LONGER},{settings}", folder / f"{variant}-{NAMES[step - 1]}"
            )
        ]
        others = OTHERS if step == 1 else {}
        last = [
            {"request": f"adamw,{LONGER},{settings}", "checkpoints": str(folder / what), **how}
            for what, how in others.items()
        ]
        trained = gangs.train_in_order(study, [*trials.values(), *again, *last], workers=workers)
        found.append(
            {
                variant: (trained[i], *trained[len(VARIANTS) + 2 * i :][:2])
                for i, variant in enumerate(VARIANTS)
            }
            | dict(zip(others, trained[len(trained) - len(last) :], strict=True))
        )
    return found


OTHERS: dict[str, Any] = {
    "by the clock": {"checkpoint_every_minutes": 1e-9},
    "no room": {"wrong": "no room on worker 1", "checkpoint_every_steps": 1},
}


def disturbed(request: str, folder: Path) -> list[dict[str, Any]]:
    """A trial that keeps checkpoints, and the same one from the first of them on."""
    kept = {"checkpoint_every_minutes": 0.0, "checkpoint_every_steps": 2}
    return [
        {"request": request, "checkpoints": str(folder), **kept},
        {"request": request, "resume_from": str(folder / "step-00000002")},
    ]


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
    loaded, trained = links[link][variant][0]["reports"]
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
    *stopped, last = (link[variant][0] for link in links)
    assert {link["outcome"]["outcome"] for link in stopped} == {"stopped"}
    assert last["outcome"]["outcome"] == "completed"
    for certificate in ("initial_parameters_sha256", "batches_sha256"):
        assert last["outcome"][certificate] == uninterrupted[variant]["outcome"][certificate]
    counters = last["reports"][-1]["counters"]
    assert counters["optimizer_steps"] == len(LINKS)
    assert counters["newton_schulz_steps"] == (len(LINKS) if variant == "muon" else 0)


TIMES = ("_time_s", "_per_s", "_bytes")


def without_times(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in record.items() if not key.endswith(TIMES)}
        for record in (*found["reports"], found["outcome"])
    ]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("link", range(len(LINKS)), ids=NAMES)
def test_the_same_gang_goes_on_to_the_last_bit(links: list[Any], variant: str, link: int) -> None:
    _, whole, resumed = links[link][variant]
    assert resumed["reports"][0] == whole["reports"][2]
    assert without_times(resumed) == without_times(whole)[2:]


@pytest.mark.parametrize("link", range(len(LINKS)), ids=NAMES)
def test_every_worker_writes_its_part_and_no_element_is_written_twice(
    links: list[Any], checkpoints: Path, link: int
) -> None:
    _, workers, _ = LINKS[link]
    saved = checkpoints / f"muon-{NAMES[link]}" / "step-00000002"
    parts = sorted(saved.glob("*.safetensors"))
    assert len(parts) == workers
    numels, elements = {}, []
    for path in parts:
        with safe_open(path, framework="np") as file:
            ranges = [key for key in file.keys() if not key.startswith("random/")]  # noqa: SIM118
        elements.append(0)
        for label, held in (key.rsplit("/", 1) for key in ranges):
            start, stop = map(int, held.split("-"))
            numels.setdefault(label, []).append((start, stop))
            elements[-1] += stop - start
    for ranges in numels.values():
        ends = [stop for _, stop in sorted(ranges)]
        assert [start for start, _ in sorted(ranges)] == [0, *ends[:-1]]
    one = checkpoints / "muon-zero0-1" / "step-00000002"
    assert set(numels) == labels(one)
    assert max(elements) < 1.2 * sum(elements) / workers


def labels(saved: Path) -> set[str]:
    (path,) = saved.glob("*.safetensors")
    with safe_open(path, framework="np") as file:
        keys = [key.rsplit("/", 1)[0] for key in file.keys()]  # noqa: SIM118
    return {key for key in keys if not key.startswith("random/")}


def test_the_clock_of_worker_0_decides_for_all(links: list[Any], checkpoints: Path) -> None:
    assert links[0]["by the clock"]["outcome"]["outcome"] == "completed"
    kept = sorted((checkpoints / "by the clock").iterdir())
    assert kept
    for saved in kept:
        assert len(list(saved.glob("*.safetensors"))) == len(list(saved.iterdir())) - 1 == 2


def test_a_worker_that_cannot_write_costs_all_the_checkpoint_and_none_the_trial(
    links: list[Any], checkpoints: Path
) -> None:
    assert links[0]["no room"]["outcome"]["outcome"] == "completed"
    assert (checkpoints / "no room" / "step-00000004").is_dir()
    assert not list((checkpoints / "no room").rglob("manifest.json"))
