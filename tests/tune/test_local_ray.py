"""What a local Ray starts, what it does without, and that nothing of it outlives its driver."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import Any

import psutil
import pytest
import ray

from tune.cluster import local_ray

NOT_NEEDED = ("monitor.py", "log_monitor.py", "dashboard.py", "dashboard/agent.py")


def command_lines(of: psutil.Process) -> list[str]:
    """Of the living: a process of an earlier test that ended a moment ago has none."""
    lines = []
    for child in of.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            lines.append(" ".join(child.cmdline()))
    return lines


def test_a_local_ray_starts_nothing_that_a_study_does_not_need() -> None:
    running = command_lines(psutil.Process())
    assert any("raylet" in line for line in running)
    assert not [line for line in running for name in NOT_NEEDED if f"/{name}" in line]


def test_a_raylet_without_the_dashboards_agent_still_serves_actors_with_an_environment() -> None:
    class Reader:
        def read(self) -> str | None:
            return os.environ.get("OF_THIS_ACTOR")

    options: dict[str, Any] = {"env_vars": {"OF_THIS_ACTOR": "its own"}}
    reader = ray.remote(runtime_env=options)(Reader).options(num_cpus=0).remote()
    assert ray.get(reader.read.remote(), timeout=60) == "its own"
    ray.kill(reader)


def test_another_version_of_ray_starts_as_it_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import node

    ordinary = node.Node
    with local_ray.lean():
        assert node.Node is not ordinary, "constraints.txt has the version that was read"
    monkeypatch.setattr(ray, "__version__", "2.61.0")
    with local_ray.lean():
        assert node.Node is ordinary


def test_no_process_outlives_a_driver_that_was_killed() -> None:
    script = (
        "import psutil, time; from tune.cluster.connection import connect; connect(None); "
        "print(*(p.pid for p in psutil.Process().children(recursive=True)), flush=True); "
        "time.sleep(300)"
    )
    driver = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    processes = [psutil.Process(int(pid)) for pid in driver.stdout.readline().split()]
    # Ray's own agent tells the dead first, and gives up after a minute.
    ours = [
        process
        for process in processes
        if not any(word.endswith("runtime_env/agent/main.py") for word in process.cmdline())
    ]
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    _, alive = psutil.wait_procs(ours, timeout=30)
    assert len(ours) >= 3, "the raylet, its placeholder, the server"
    assert not alive
