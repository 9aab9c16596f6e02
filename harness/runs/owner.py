"""owner.json: which process runs a study. The file lock decides who may; this only tells.

It is removed at a clean end. One that stays behind is of a driver that was killed.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import psutil
from pydantic import Field, TypeAdapter

from harness.errors import UserError
from harness.runs.reading import exists, read_record
from harness.study.record import Record

Life = Literal["lives", "dead", "unknown"]

SAME_START_S = 2.0
"""A clock that is set moves the start of a process; a pid is used again only much later."""

_SECRETS = (
    (re.compile(r"(://)[^/\s@]+@"), r"\1***@"),
    (re.compile(r"(?i)((?:token|password|passwd|secret|api_?key)[^=\s]*=)\S+"), r"\1***"),
)


class Owner(Record):
    """The process that holds the folder of a study."""

    host: str
    pid: int
    since: str = Field(description="UTC, ISO 8601")
    process_started: float = Field(description="seconds since 1970: tells a pid that is used again")
    command: str = Field(description="as it was typed, without passwords")

    @property
    def words(self) -> str:
        return f"pid {self.pid} on {self.host}, since {self.since}: {self.command}"

    def life(self) -> Life:
        """Whether it still lives; of a process on another host this cannot be known here."""
        if self.host != platform.node():
            return "unknown"
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.process_started) < SAME_START_S
            gone = process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return "dead"
        except psutil.AccessDenied:
            return "unknown"
        return "lives" if same and not gone else "dead"


def this_process() -> Owner:
    return Owner(
        host=platform.node(),
        pid=os.getpid(),
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        process_started=psutil.Process().create_time(),
        command=without_secrets(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])),
    )


def without_secrets(command: str) -> str:
    """Passwords in addresses, and the values of what is called a token or the like, are hidden."""
    for pattern, hidden in _SECRETS:
        command = pattern.sub(hidden, command)
    return command


_OWNER = TypeAdapter(Owner)


def read_owner(path: Path) -> Owner | None:
    """None where there is none, or where it cannot be read: nothing depends on it."""
    try:
        return read_record(path, _OWNER, "delete it") if exists(path) else None
    except UserError:
        return None
