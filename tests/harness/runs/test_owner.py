"""Who owns a study: told to a second driver, told after a death, removed at a clean end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.report.terminal.status import is_over, status_values
from harness.runs.folder import StudyFolder
from harness.runs.owner import this_process, without_secrets
from harness.runs.snapshot import load_snapshot

ROOT = Path(__file__).parents[3]
Write = Callable[..., StudyFolder]
HOLD = """
import sys, time
from pathlib import Path
from harness.runs.folder import StudyFolder
with StudyFolder(Path(sys.argv[1])).locked():
    print("held", flush=True)
    time.sleep(600)
"""


def a_driver(path: Path) -> subprocess.Popen[str]:
    """Another process that holds the folder."""
    driver = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), "--token=s3cret"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert driver.stdout is not None
    assert driver.stdout.readline() == "held\n"
    return driver


def end(driver: subprocess.Popen[str], sign: signal.Signals) -> None:
    driver.send_signal(sign)
    driver.communicate()


def states(folder: StudyFolder) -> set[str]:
    return {row["state"] for row in status_values(load_snapshot(folder))["trials"].values()}


def test_the_owner_stands_in_the_folder_while_it_is_held_and_no_longer(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "study")
    assert folder.owner() is None
    with folder.locked():
        owner = folder.owner()
        assert owner is not None
        assert (owner.pid, owner.life()) == (os.getpid(), "lives")
    assert folder.owner() is None
    with pytest.raises(KeyboardInterrupt), folder.locked():
        raise KeyboardInterrupt
    assert folder.owner() is None


def test_a_second_driver_is_told_who_owns_the_study_and_a_death_is_told(
    made_up_study: Write,
) -> None:
    folder = made_up_study(seeds=(0, 1, 2), unfinished=frozenset({("muon", 0)}))
    assert states(folder) == {"completed", "interrupted"}
    driver = a_driver(folder.path)
    try:
        refused = pytest.raises(UserError, match=f"in use .*pid {driver.pid} on ")
        with refused as error, folder.locked():
            pytest.fail("two drivers")
        assert "s3cret" not in str(error.value)
        assert states(folder) == {"completed", "running"}
    finally:
        end(driver, signal.SIGKILL)
    status = status_values(load_snapshot(folder))
    assert states(folder) == {"completed", "interrupted"}
    assert (status["driver"]["state"], status["driver"]["pid"]) == ("dead", driver.pid)
    assert is_over(status)
    with folder.locked():  # the lock died with its process
        assert states(folder) == {"completed", "running"}
    assert status_values(load_snapshot(folder))["driver"] == {"state": "none"}


def test_a_pid_that_is_used_again_is_not_taken_for_the_driver() -> None:
    me = this_process()
    assert me.life() == "lives"
    assert me.model_copy(update={"process_started": me.process_started - 60}).life() == "dead"


def test_on_another_host_it_cannot_be_known(made_up_study: Write) -> None:
    folder = made_up_study(seeds=(0, 1, 2), unfinished=frozenset({("muon", 0)}))
    elsewhere = this_process().model_copy(update={"host": "elsewhere"})
    folder.owner_path.write_text(elsewhere.model_dump_json())
    status = status_values(load_snapshot(folder))
    assert status["driver"]["state"] == "unknown"
    assert not is_over(status)
    assert states(folder) == {"completed", "running"}


@pytest.mark.parametrize("content", ["", "[]", '{"pid": 1}', "\udcff"])
def test_an_owner_that_cannot_be_read_is_none_and_hinders_nobody(
    tmp_path: Path, content: str
) -> None:
    folder = StudyFolder(tmp_path)
    folder.owner_path.write_bytes(content.encode(errors="surrogateescape"))
    assert folder.owner() is None
    with folder.locked():
        assert json.loads(folder.owner_path.read_text())["pid"] == os.getpid()


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("run --tracking-uri https://me:pw@host:1/x", "run --tracking-uri https://***@host:1/x"),
        ("--api-token=abc --set a=1", "--api-token=*** --set a=1"),
        ("--set x.PASSWORD=abc", "--set x.PASSWORD=***"),
        ("run studies/quickstart.toml", "run studies/quickstart.toml"),
    ],
)
def test_secrets_of_a_command_line_are_hidden(command: str, shown: str) -> None:
    assert without_secrets(command) == shown
