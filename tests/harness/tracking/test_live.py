"""The process beside a run: it needs nothing from the run, and leaves with it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from growing import Growing

from harness.runs.folder import StudyFolder
from harness.tracking.live import NICENESS, LiveWriter
from harness.tracking.tracker import Tracker, TrackingUnavailable

Write = Callable[..., StudyFolder]
SMALL: dict[str, Any] = {"seeds": (0,), "steps": 20, "every": 10}


def wait_until(true: Callable[[], Any], what: str, at_most_s: float = 60.0) -> None:
    deadline = time.monotonic() + at_most_s
    while not true():
        assert time.monotonic() < deadline, f"{what}: not within {at_most_s} s"
        time.sleep(0.05)


@pytest.fixture
def hanging() -> Iterator[str]:
    """The address of a server that takes every request and answers none."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        yield f"http://ann:sesame@127.0.0.1:{listening.getsockname()[1]}"


def test_reports_come_while_the_run_goes_on_and_the_last_ones_at_its_end(
    made_up_study: Write, stored: Any
) -> None:
    growing = Growing(made_up_study(**SMALL))
    writer = LiveWriter(growing.folder)
    growing.report("muon seed 0")
    wait_until(stored.points, "the first report")
    growing.to_the_end()
    assert writer.finish(at_most_s=60) == ""
    assert stored.of_trials(stored.points()) == stored.of_trials(stored.expected(growing.folder))


def test_a_server_that_hangs_is_left_behind(made_up_study: Write, hanging: str) -> None:
    folder = made_up_study(**SMALL)
    writer = LiveWriter(folder, tracking_uri=hanging)
    process = writer._process
    assert "sesame" not in Path(f"/proc/{process.pid}/cmdline").read_text()
    wait_until(lambda: os.getpriority(os.PRIO_PROCESS, process.pid) >= NICENESS, "its priority")
    assert writer.finish(at_most_s=0.5) == "it did not take the last reports within 0.5 s"
    assert process.poll() is not None
    with pytest.raises(TrackingUnavailable, match=r"\*\*\*@127.*longer than 0\.5 s"):
        Tracker(folder, hanging).sync(at_most_s=0.5)


RUN_THAT_IS_KILLED = """
import sys, time
from pathlib import Path
from harness.runs.folder import StudyFolder
from harness.tracking.live import NICENESS, LiveWriter
print(LiveWriter(StudyFolder(Path(sys.argv[1])))._process.pid, flush=True)
time.sleep(600)
"""


def test_it_ends_when_its_run_is_killed(made_up_study: Write, stored: Any) -> None:
    folder = made_up_study(**SMALL)
    with subprocess.Popen(
        [sys.executable, "-c", RUN_THAT_IS_KILLED, str(folder.path)],
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        run.send_signal(signal.SIGKILL)
    wait_until(lambda: not _is_alive(pid), "its end")
    assert stored.of_trials(stored.points()) == stored.of_trials(stored.expected(folder))


def _is_alive(pid: int) -> bool:
    """Also while nobody has asked how it ended, a process that has ended is not alive."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
