"""What a gang's workers say, and what becomes of workers that say nothing. Without an optimizer."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

import pytest

from harness.verification import CheckResult, Place, gangs
from harness.verification.subjects import Subject

TASKS = [(Place("zero2", 2), "starts"), (Place("zero2", 2), "resume")]
NOBODY = Subject("lion", {})
REFUSAL = "needs whole parameters: use backend ddp"


class Says:
    """A gang that says this, and then nothing."""

    patience_s = 1.0

    def __init__(self, *words: tuple[int, str, int, Any]) -> None:
        self.words = words

    def said(self) -> Iterator[tuple[int, str, int, Any]]:
        yield from self.words


def results(*words: tuple[int, str, int, Any]) -> list[CheckResult]:
    return list(gangs._results(Says(*words), TASKS, 2))  # type: ignore[arg-type]


def test_a_refusal_of_all_workers_in_the_same_words_is_not_applicable() -> None:
    (found,) = results((0, "refuses", 0, REFUSAL), (1, "refuses", 0, REFUSAL))
    assert (found.status, found.detail) == ("not applicable", REFUSAL)


@pytest.mark.parametrize(
    "words",
    [
        [(1, "refuses", 0, "max() arg is an empty sequence")],
        [(1, "refuses", 0, REFUSAL), (0, "raised", 0, "RuntimeError: closed by peer")],
        [(0, "refuses", 0, "0 and [1] disagree"), (1, "refuses", 0, "1 and [0] disagree")],
    ],
)
def test_any_other_refusal_is_an_error(words: Sequence[tuple[int, str, int, Any]]) -> None:
    (found,) = results(*words)
    assert found.status == "error"
    assert f"ValueError: {words[0][3]}" in found.detail


def _ends(
    subject: Subject, tasks: Sequence[Any], ports: list[int], rank: int, answers: Connection
) -> None:
    answers.send(("begins", 0, None))
    if rank == 1:
        os._exit(3)
    time.sleep(60.0)


def test_a_worker_that_ends_by_itself_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gangs, "run_worker", _ends)
    monkeypatch.setattr(gangs, "OTHERS_RAISE_TOO_S", 0.2)
    start = time.monotonic()
    (found,) = gangs.run_tasks(NOBODY, TASKS[:1], workers=2, patience_s=50.0)
    assert found.status == "error"
    assert found.detail == "worker 1 of 2: the process ended: exit code 3; the others did not"
    assert time.monotonic() - start < 30.0


def test_a_gang_ends_when_nobody_waits_for_its_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gangs, "run_worker", _ends)
    asker, asked_for = os.pipe()
    os.close(asked_for)
    with pytest.raises(SystemExit, match="who asked is gone"):
        list(gangs.run_tasks(NOBODY, TASKS[:1], workers=1, patience_s=50.0, asker=asker))
    os.close(asker)
    assert not [p for p in multiprocessing.active_children() if p.name.startswith("ForkProcess")]


ORPHANS = """
import multiprocessing, threading, time
from harness.verification.gangs import _leave_with_parent

def work():
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    time.sleep(600)

fork = multiprocessing.get_context("fork")
for _ in range(3):
    fork.Process(target=work).start()
print("started", flush=True)
time.sleep(600)
"""


def test_no_worker_outlives_the_process_that_started_it() -> None:
    script = subprocess.Popen(
        [sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    assert script.stdout is not None
    assert script.stdout.readline() == b"started\n"
    script.kill()
    # The workers hold the other end of this pipe.
    assert script.communicate(timeout=20.0)[0] == b""
