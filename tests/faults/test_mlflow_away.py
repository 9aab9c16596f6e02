"""An MLflow server that dies, stands still or never comes: no point is lost, none is there twice.

Real servers over real stores; the study's folder grows as a driver would write it.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from growing import Growing
from mlflow_server import MlflowServer

from harness.analysis.study_analysis import analyse_study
from harness.analysis.study_results import load_results
from harness.runs.folder import StudyFolder
from harness.tracking.live import LiveWriter
from harness.tracking.run_records import records
from harness.tracking.tracker import Tracker, TrackingUnavailable

pytestmark = pytest.mark.faults
Write = Callable[..., StudyFolder]
Follow = Callable[[StudyFolder, MlflowServer], LiveWriter]
STUDY: dict[str, Any] = {"seeds": (0, 1, 2, 3), "steps": 300, "every": 10}
LONG = STUDY | {"steps": 1200}
REPORT_WITHIN_S = 5.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MlflowServer]:
    with MlflowServer(tmp_path / "server") as server:
        yield server


@pytest.fixture
def follow() -> Iterator[Follow]:
    """Starts the process that follows a study; none outlives its test."""
    writers: list[LiveWriter] = []

    def start(folder: StudyFolder, server: MlflowServer) -> LiveWriter:
        writers.append(LiveWriter(folder, tracking_uri=server.uri))
        return writers[-1]

    yield start
    for writer in writers:
        if writer._process.returncode is None:
            writer.finish(at_most_s=0)


class Load:
    """Trials of one study that report all the time, until told to come to their end."""

    def __init__(self, growing: Growing, pause_s: float) -> None:
        self.growing, self.pause_s = growing, pause_s
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._hurry.set()
        self._thread.join()

    def _write(self) -> None:
        names = list(self.growing.names)
        while sum(self.growing.report(name) for name in names):
            self._hurry.wait(self.pause_s)


def in_agreement(server: MlflowServer, folder: StudyFolder) -> None:
    """Every point of the files is there exactly once, and every run has its status."""
    expected = list(records(load_results(folder)))
    points = sorted(
        (record.name, key, step, value)
        for record in expected
        for group in record.groups
        for key, value, step in group.values
    )
    stored = server.points()
    assert max(Counter(point[:3] for point in stored).values()) == 1, "a point is there twice"
    assert stored == points
    status = server.query("SELECT name, status FROM runs WHERE lifecycle_stage = 'active'")
    assert sorted(status) == sorted((record.name, record.status) for record in expected)


def points_grow(server: MlflowServer, at_most_s: float = 60.0) -> float:
    """Waits for a new point; how long it took."""
    begun, before = time.monotonic(), len(server.points())
    while len(server.points()) <= before:
        assert time.monotonic() - begun < at_most_s, "nothing more arrives"
        time.sleep(0.1)
    return time.monotonic() - begun


def test_a_report_arrives_within_seconds(
    made_up_study: Write, server: MlflowServer, follow: Follow
) -> None:
    growing = Growing(made_up_study(**STUDY))
    server.start()
    writer = follow(growing.folder, server)
    growing.report("muon seed 0")
    points_grow(server)
    seconds = []
    for _ in range(10):
        growing.report("muon seed 0")
        seconds.append(points_grow(server))
    print(f"a report arrives after {min(seconds):.1f} to {max(seconds):.1f} s")
    assert max(seconds) < REPORT_WITHIN_S
    assert writer.finish() == ""


def test_a_server_is_killed_and_started_again(
    made_up_study: Write, server: MlflowServer, follow: Follow
) -> None:
    growing = Growing(made_up_study(**LONG))
    server.start()
    writer = follow(growing.folder, server)
    with Load(growing, pause_s=0.5):
        points_grow(server)
        for _ in range(2):
            server.kill()
            time.sleep(2)
            server.start()
            points_grow(server)
        running = server.query("SELECT status FROM runs WHERE name LIKE '% seed %'")
        assert ("RUNNING",) in running
    assert writer.finish(at_most_s=60) == ""
    analyse_study(growing.folder)
    assert Tracker(growing.folder, server.uri).sync().runs == 0
    in_agreement(server, growing.folder)


def test_a_server_stands_still_in_the_middle_of_requests(
    made_up_study: Write,
    server: MlflowServer,
    follow: Follow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Requests are given up, and answered all the same once the server goes on.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    growing = Growing(made_up_study(**LONG))
    server.start()
    writer = follow(growing.folder, server)
    with Load(growing, pause_s=0.5):
        for pause_s in (0.3, 1.1, 2.2, 0.7):
            points_grow(server)
            time.sleep(pause_s)
            server.stand_still()
            time.sleep(4)
            server.go_on()
        points_grow(server)
    assert writer.finish(at_most_s=60) == ""
    analyse_study(growing.folder)
    Tracker(growing.folder, server.uri).sync()
    in_agreement(server, growing.folder)


def test_a_server_that_stands_still_holds_up_nothing(
    made_up_study: Write, server: MlflowServer, follow: Follow
) -> None:
    growing = Growing(made_up_study(**STUDY))
    server.start()
    writer = follow(growing.folder, server)
    growing.report("muon seed 0")
    points_grow(server)
    server.stand_still()
    growing.to_the_end()
    begun = time.monotonic()
    assert writer.finish() != ""
    assert time.monotonic() - begun < 15
    server.go_on()
    Tracker(growing.folder, server.uri).sync()
    in_agreement(server, growing.folder)


def test_a_server_that_was_away_for_the_whole_study_gets_it_all_later(
    made_up_study: Write, server: MlflowServer, follow: Follow
) -> None:
    growing = Growing(made_up_study(**STUDY))
    writer = follow(growing.folder, server)
    with Load(growing, pause_s=0.1):
        time.sleep(8)
    assert "nothing answers there" in writer.finish()
    analyse_study(growing.folder)
    server.start()
    first = Tracker(growing.folder, server.uri).sync()
    assert first.points == len(server.points())
    again = Tracker(growing.folder, server.uri).sync()
    assert (again.runs, again.points) == (0, 0)
    in_agreement(server, growing.folder)


MANY: dict[str, Any] = {"seeds": tuple(range(20)), "steps": 300, "every": 10}


def test_a_server_dies_in_the_middle_of_a_first_sync(
    made_up_study: Write, server: MlflowServer
) -> None:
    folder = made_up_study(**MANY)
    server.start()
    with ThreadPoolExecutor(1) as pool:
        syncing = pool.submit(Tracker(folder, server.uri).sync)
        points_grow(server)
        server.kill()
        with pytest.raises(TrackingUnavailable, match="nothing answers there"):
            syncing.result(timeout=60)
    server.start()
    Tracker(folder, server.uri).sync(at_most_s=600)
    in_agreement(server, folder)


def test_ctrl_c_in_the_middle_of_a_sync_leaves_it_to_the_next_one(
    made_up_study: Write, server: MlflowServer
) -> None:
    folder = made_up_study(**MANY)
    server.start()
    words = ["sync", folder.path.name, "--runs-dir", str(folder.path.parent)]
    command = [sys.executable, "-m", "harness", *words, "--tracking-uri", server.uri]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    points_grow(server, at_most_s=120)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert len(server.query("SELECT run_uuid FROM runs")) < 1 + 2 + 40, "it was in the middle"
    Tracker(folder, server.uri).sync(at_most_s=600)
    in_agreement(server, folder)


def test_every_follower_may_die(made_up_study: Write, server: MlflowServer, follow: Follow) -> None:
    growing = Growing(made_up_study(**LONG))
    server.start()
    with Load(growing, pause_s=0.5):
        for _ in range(3):
            writer = follow(growing.folder, server)
            points_grow(server)
            writer._process.kill()
            writer.finish()
    Tracker(growing.folder, server.uri).sync()
    in_agreement(server, growing.folder)
