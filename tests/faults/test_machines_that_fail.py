"""Workers, drivers and whole studies that are killed or stand still end as if nothing had been.

Every fault is real and hits a real `optbench run` from outside. The end is compared bit for bit
with an undisturbed run: outcomes, every report, and the verdict.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from under_fire import (
    StudyProcess,
    failures,
    left,
    next_attempt,
    open_attempts,
    study_folder,
    trained_alone,
)

from harness.data import prepare
from harness.study.load import load_study
from harness.study.plan import expand

STEPS, EVERY = 60, 5
OPTIONS = (
    *("--set", f"training.steps={STEPS}"),
    *("--set", f"training.evaluation_every={EVERY}"),
    *("--set", "checkpoints.every_steps=5"),
    *("--set", "resources.workers=2"),
    *("--set", "resources.heartbeat_timeout_s=5"),
)
POINTS = 20
"""Random points of each fault under `make faults`."""

RECOVERY_S = 60.0
"""From a fault to the next attempt: a promise of docs/reliability.md, and no measure of speed."""


@pytest.fixture(scope="module")
def file(study_text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fire") / "tiny.toml"
    path.write_text(study_text)
    return path


@pytest.fixture(scope="module")
def undisturbed(file: Path) -> Path:
    runs = file.parent / "undisturbed"
    with StudyProcess(file, runs, OPTIONS) as study:
        assert study.wait() == 0, study.printed[-3000:]
        assert not failures(runs)
    return runs


def verdict(runs: Path) -> object:
    folder = study_folder(runs)
    assert folder is not None
    analysis = json.loads(folder.analysis_path.read_text())
    return [
        {key: comparison[key] for key in ("variant", "verdict", "p", "mean_difference")}
        for comparison in analysis["comparisons"]
    ]


def ends_like(runs: Path, undisturbed: Path) -> None:
    assert left(runs) == left(undisturbed)
    assert verdict(runs) == verdict(undisturbed)


Hit = Callable[[StudyProcess, random.Random], str]
"""Hits once, at a random moment, and says which trial."""


def kill_a_worker(study: StudyProcess, chance: random.Random) -> str:
    return hit_a_worker(study, chance, signal.SIGKILL)


def stop_a_worker(study: StudyProcess, chance: random.Random) -> str:
    return hit_a_worker(study, chance, signal.SIGSTOP)


def hit_a_worker(study: StudyProcess, chance: random.Random, what: signal.Signals) -> str:
    step, rank = chance.randrange(0, STEPS - EVERY), chance.randrange(2)
    while True:
        key, place = study.worker_at(step=step, rank=rank)
        time.sleep(chance.random() * 0.3)
        if any(key == other for other, _, _ in open_attempts(study.runs)):
            os.kill(place.pid, what)
            return key


def kill_the_driver(study: StudyProcess, chance: random.Random) -> str:
    step = chance.randrange(-1, STEPS - EVERY)
    key = study.until(
        lambda: next((k for k, _, reported in open_attempts(study.runs) if reported >= step), None)
    )
    time.sleep(chance.random() * 0.5)
    study.kill()
    return str(key)


def under(hits: list[Hit], file: Path, runs: Path, chance: random.Random) -> list[float]:
    """One study, hit once by each of them, then run to its end.

    Returns:
        seconds from each hit to the next attempt at the trial; where the driver was killed, from
        the start of the next run to its first attempt at any.
    """
    recoveries = []
    for hit in hits:
        with StudyProcess(file, runs, OPTIONS) as study:
            key, at = hit(study, chance), time.time()
            if hit is not kill_the_driver:
                assert study.wait() == 0, study.printed[-3000:]
                recoveries.append(next_attempt(runs, key, after=at) - at)
            assert not study.left_alive()
        if hit is kill_the_driver:
            at = time.time()
            with StudyProcess(file, runs, OPTIONS) as study:
                assert study.wait() == 0, study.printed[-3000:]
            recoveries.append(next_attempt(runs, "*", after=at) - at)
    return recoveries


def test_a_killed_driver_and_a_killed_worker_leave_no_trace_in_the_results(
    file: Path, tmp_path: Path
) -> None:
    """Gangs of one, compared with what one process yields without Ray."""
    runs = tmp_path / "runs"
    small = ("training.steps=30", "training.evaluation_every=3", "checkpoints.every_steps=3")
    options = tuple(part for override in small for part in ("--set", override))
    with StudyProcess(file, runs, options) as study:
        study.worker_at(step=9, rank=0)
        study.kill()
        assert not study.left_alive()
    with StudyProcess(file, runs, options) as study:
        _, place = study.worker_at(step=15, rank=0)
        os.kill(place.pid, signal.SIGKILL)
        assert study.wait() == 0, study.printed[-3000:]
    assert {event.end for event in failures(runs)} == {"stopped", "worker_died"}
    (died,) = (event for event in failures(runs) if event.end == "worker_died")
    assert "killed" in died.cause
    found, study_file = left(runs), load_study(file, small)
    dataset = prepare(study_file.data)
    for spec in expand(study_file, dataset.manifest.sha256).values():
        place_of = (spec.optimizer.kind, spec.seed)
        outcome, *reports = trained_alone(spec, dataset)
        assert found.outcomes[place_of] == outcome
        assert found.reports[place_of] == reports


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(POINTS))
@pytest.mark.parametrize("hit", [kill_a_worker, stop_a_worker, kill_the_driver])
def test_at_any_moment(
    hit: Hit,
    seed: int,
    file: Path,
    undisturbed: Path,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    runs = tmp_path / "runs"
    (recovery,) = under([hit], file, runs, random.Random(seed))
    record_property("recovery_s", recovery)
    # A driver may be hit between two trials.
    assert failures(runs) or hit is kill_the_driver, "it was hit"
    ends_like(runs, undisturbed)
    assert recovery < RECOVERY_S


@pytest.fixture
def no_memory() -> Iterator[Callable[[int], None]]:
    """Gives a process a page of memory: the kernel kills it at its next allocation."""
    root = Path("/sys/fs/cgroup")
    second = (root / "cgroup.controllers").exists()
    group = root / ("" if second else "memory") / f"optbench-{os.getpid()}"
    try:
        group.mkdir()
        (group / ("memory.max" if second else "memory.limit_in_bytes")).write_text("4096")
    except OSError as error:
        pytest.skip(f"control groups cannot be made here: {error.strerror}")
    yield lambda pid: (group / "cgroup.procs").write_text(str(pid))
    with contextlib.suppress(OSError):
        group.rmdir()


@pytest.mark.faults
def test_a_worker_that_the_kernel_kills_for_memory_once_is_no_outcome(
    no_memory: Callable[[int], None], file: Path, undisturbed: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    with StudyProcess(file, runs, OPTIONS) as study:
        _, place = study.worker_at(step=EVERY, rank=1)
        no_memory(place.pid)
        assert study.wait() == 0, study.printed[-3000:]
    assert [event.end for event in failures(runs)] == ["out_of_memory"]
    ends_like(runs, undisturbed)


@pytest.mark.faults
def test_ctrl_c_twice_leaves_a_study_that_goes_on(
    file: Path, undisturbed: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    with StudyProcess(file, runs, OPTIONS) as study:
        study.worker_at(step=EVERY, rank=0)
        study.look()
        study.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        study.process.send_signal(signal.SIGINT)
        assert study.wait() == 130
        assert "Traceback" not in study.printed
        assert not study.left_alive()
    with StudyProcess(file, runs, OPTIONS) as study:
        assert study.wait() == 0, study.printed[-3000:]
    ends_like(runs, undisturbed)
