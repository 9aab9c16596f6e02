"""Ray starts its workers at nice 15, and all else that runs on a host is then in every step time.

A raylet that was started with `RAY_worker_niceness=0` in its environment does not; of a cluster
that somebody else started we cannot know, so every worker looks for itself.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def as_the_node() -> int:
    """Takes back what the raylet added to the niceness of this worker; needs the right to do so.

    Every thread has its own on Linux, and new ones take that of the thread that starts them.

    Returns:
        the niceness that this process has now; 0 is the ordinary one.
    """
    with suppress(OSError):
        wanted = os.getpriority(os.PRIO_PROCESS, os.getppid())
        for thread in Path("/proc/self/task").iterdir():
            if os.getpriority(os.PRIO_PROCESS, int(thread.name)) > wanted:
                os.setpriority(os.PRIO_PROCESS, int(thread.name), wanted)
    return os.getpriority(os.PRIO_PROCESS, 0)
