"""How a frozen plan came to be another one: amended with a reason, or grown by additions."""

from __future__ import annotations

from harness.study.additions import Additions
from harness.study.record import Record


class Amendment(Record):
    """A change of a frozen plan, with its reason; printed in every report."""

    why: str
    when: str  # UTC, ISO 8601
    from_sha256: str
    to_sha256: str
    changes: tuple[str, ...]
    outcomes: int = 0  # training runs that had ended: what could be looked at before the change
    measured: int | None = None  # those of them that measure; None: not recorded then


class Addition(Record):
    """What was added to a frozen plan; all that it fixed stayed as it was."""

    when: str  # UTC, ISO 8601
    from_sha256: str
    to_sha256: str
    added: Additions
    why: str | None = None  # if a reason was given, which an addition does not need
    comparisons: int  # before the addition
    outcomes: int  # training runs that had ended: what could be looked at before the addition
    measured: int  # those of them that measure
