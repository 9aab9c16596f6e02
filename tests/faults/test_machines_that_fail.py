"""Workers, drivers and whole studies that are killed or stand still end as if nothing had been.

Every fault is real and hits a real `optbench run` from outside. The end is compared bit for bit
with an undisturbed run: outcomes, every report, and the verdict.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from under_fire import (
    StudyProcess,
    failures,
    left,
    next_attempt,
    open_attempts,
    study_folder,
    worker_at,
)

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
        key, place = study.until(lambda: worker_at(study.runs, step=step, rank=rank))
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
        the start of the next run.
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
            recoveries.append(next_attempt(runs, key, after=at) - at)
    return recoveries


def test_killed_driver_and_killed_worker_leave_no_trace_in_the_results(
    file: Path, undisturbed: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    chance = random.Random(1)
    with StudyProcess(file, runs, OPTIONS) as study:
        kill_the_driver(study, chance)
        assert not study.left_alive()
    under([kill_a_worker], file, runs, chance)
    ends = sorted(event.end for event in failures(runs))
    assert ends == ["stopped", "worker_died"]
    (died,) = (event for event in failures(runs) if event.end == "worker_died")
    assert "killed" in died.cause
    ends_like(runs, undisturbed)


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
    assert failures(runs), "it was hit"
    ends_like(runs, undisturbed)
    assert recovery < RECOVERY_S


@pytest.mark.faults
def test_ctrl_c_twice_leaves_a_study_that_goes_on(
    file: Path, undisturbed: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    with StudyProcess(file, runs, OPTIONS) as study:
        study.until(lambda: worker_at(runs, step=EVERY, rank=0))
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
