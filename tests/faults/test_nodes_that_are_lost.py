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
    """Two nodes of two cores and a head without any."""

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
def cluster() -> Iterator[SmallCluster]:
    cluster = SmallCluster(2, 2)
    yield cluster
    cluster.close()


def test_a_lost_node_is_an_attempt_and_the_study_ends_on_the_other(
    cluster: SmallCluster, study_text: str, tmp_path: Path
) -> None:
    file = tmp_path / "tiny.toml"
    file.write_text(study_text)
    here, there = tmp_path / "here", tmp_path / "there"
    with StudyProcess(file, here, OPTIONS) as study:
        assert study.wait() == 0, study.printed[-3000:]
    with StudyProcess(file, there, (*OPTIONS, "--address", cluster.address)) as study:
        _, place = study.until(lambda: worker_at(there, step=20, rank=1))
        cluster.tell(f"lose {place.node}")
        assert study.wait() == 0, study.printed[-3000:]
    assert {event.end for event in failures(there)} == {"node_lost"}
    assert left(there) == left(here), "to the last bit: the workers are as many"
    until = time.monotonic() + 60
    while (found := cluster.tell("resources"))["available"].get("CPU") != found["total"]["CPU"]:
        assert time.monotonic() < until, found
        time.sleep(0.5)
    assert found["total"]["CPU"] == 2
