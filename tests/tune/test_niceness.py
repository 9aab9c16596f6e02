"""Workers do not stay nice where they may change it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tune.gangs.niceness import as_the_node

NICE_AS_A_WORKER = """
import os, threading
from tune.gangs.niceness import as_the_node
wait, seen = threading.Event(), []
def other():
    wait.wait()
    seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
os.nice(15)  # what a raylet does to its workers
thread = threading.Thread(target=other)
thread.start()
now = as_the_node()
wait.set()
thread.join()
print(now, *seen)
"""


def test_a_worker_takes_the_niceness_of_its_node_in_every_thread() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may lower a niceness")
    done = subprocess.run(
        [sys.executable, "-c", NICE_AS_A_WORKER], capture_output=True, text=True, check=True
    )
    here = os.getpriority(os.PRIO_PROCESS, 0)
    assert done.stdout.split() == [str(here), str(here)]


def test_a_process_that_nobody_made_nice_stays_as_it_is() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    assert as_the_node() == before
