"""stop.json of a trial: a person asks its driver to end the attempt, and says why."""

from __future__ import annotations

import getpass
import platform
from datetime import UTC, datetime

from harness.study.record import Record


class StopRequest(Record):
    why: str
    at: str  # UTC, ISO 8601
    by: str  # user@host


def asked_by(why: str) -> StopRequest:
    """A request of this process's user."""
    return StopRequest(
        why=why,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        by=f"{_user()}@{platform.node()}",
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return "somebody"
