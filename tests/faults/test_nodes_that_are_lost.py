"""A node of a real cluster of several raylets is lost under a study."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from under_fire import StudyProcess, failures, left, worker_at

SCRIPT = Path(__file__).with_name("cluster_that_loses_nodes.py")
OPTIONS = (
    *("--set", "training.steps=60"),
    *("--set", "training.evaluation_every=5"),
    *("--set", "checkpoints.every_steps=5"),
    *("--set", "resources.workers=2"),
    *("--set", "resources.heartbeat_timeout_s=10"),
)

pytestmark = pytest.mark.faults


class SmallCluster:
    """Nodes of so many cores, and a head without any."""

    def __init__(self, *cpus: int) -> None:
        environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *map(str, cpus)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.address = self._answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, command: str) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        return json.loads(self._answer())

    def close(self) -> None:
        self.process.communicate(timeout=120)


@pytest.fixture
def file(study_text: str, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(study_text)
    return path


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[SmallCluster]:
    cluster = SmallCluster(*request.param)
    yield cluster
    cluster.close()


def undisturbed(file: Path) -> Path:
    runs = file.parent / "here"
    with StudyProcess(file, runs, OPTIONS) as study:
        assert study.wait() == 0, study.printed[-3000:]
    return runs


def lose_the_node_of_a_trial(study: StudyProcess, cluster: SmallCluster) -> None:
    _, place = study.until(lambda: worker_at(study.runs, step=20, rank=1))
    cluster.tell(f"lose {place.node}")


def all_is_free(cluster: SmallCluster) -> None:
    until = time.monotonic() + 60
    while (found := cluster.tell("resources"))["available"].get("CPU") != found["total"]["CPU"]:
        assert time.monotonic() < until, found
        time.sleep(0.5)
    assert found["total"]["CPU"] == 2


@pytest.mark.parametrize("cluster", [(2, 2)], indirect=True)
def test_a_lost_node_is_an_attempt_and_the_study_ends_on_the_other(
    cluster: SmallCluster, file: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "there"
    with StudyProcess(file, runs, (*OPTIONS, "--address", cluster.address)) as study:
        lose_the_node_of_a_trial(study, cluster)
        assert study.wait() == 0, study.printed[-3000:]
    assert {event.end for event in failures(runs)} == {"node_lost"}
    assert left(runs) == left(undisturbed(file)), "to the last bit: the workers are as many"
    all_is_free(cluster)


@pytest.mark.parametrize("cluster", [(2,)], indirect=True)
def test_without_room_a_study_ends_and_goes_on_when_there_is(
    cluster: SmallCluster, file: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "there"
    options = (*OPTIONS, "--address", cluster.address)
    with StudyProcess(file, runs, options) as study:
        lose_the_node_of_a_trial(study, cluster)
        assert study.wait() == 1
        assert "no trial has room any more" in study.printed
        assert "Traceback" not in study.printed
    cluster.tell("add 2")
    with StudyProcess(file, runs, options) as study:
        assert study.wait() == 0, study.printed[-3000:]
    assert left(runs) == left(undisturbed(file))
    all_is_free(cluster)
