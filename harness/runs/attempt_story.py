"""The attempts of one trial, each with its beginning, its end, and the logs of its workers."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness.runs.attempts import (
    FAILURES,
    AttemptBegan,
    AttemptEnded,
    AttemptEvent,
    WorkerPlace,
)

TAIL_LINES = 20
TAIL_BYTES = 65536


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """`began` is None where no worker ever came up, `ended` while it runs or its driver died."""

    number: int
    began: AttemptBegan | None
    ended: AttemptEnded | None

    @property
    def duration_s(self) -> float | None:
        if self.began is None or self.ended is None:
            return None
        return (_time(self.ended.at) - _time(self.began.at)).total_seconds()

    @property
    def places(self) -> tuple[WorkerPlace, ...]:
        return self.began.places if self.began is not None else ()

    @property
    def failed(self) -> bool:
        """Whether it ended in a way that is no outcome and that nobody asked for."""
        return self.ended is not None and self.ended.end in FAILURES

    @property
    def trained(self) -> bool:
        """Whether what it trained may be part of the trial's times."""
        if self.began is None:
            return False
        if self.ended is None or self.ended.end == "outcome":
            return True
        return self.ended.step > self.began.resumed_step

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(place.host for place in self.places))

    def log_tails(self) -> dict[int, str]:
        """By rank: as they were when the attempt ended, else as the files on this host are now."""
        kept = {} if self.ended is None else self.ended.log_tails
        here = {place.rank: _tail(place) for place in self.places if place.rank not in kept}
        return dict(sorted({**kept, **{r: tail for r, tail in here.items() if tail}}.items()))

    def to_json(self) -> dict[str, Any]:
        return {
            "attempt": self.number,
            "began": None if self.began is None else self.began.model_dump(mode="json"),
            "ended": None if self.ended is None else self.ended.model_dump(mode="json"),
            "duration_s": self.duration_s,
            "log_tails": self.log_tails(),
        }


def attempts_of(events: Sequence[AttemptEvent]) -> list[Attempt]:
    """In the order of their numbers."""
    began = {event.attempt: event for event in events if isinstance(event, AttemptBegan)}
    ended = {event.attempt: event for event in events if isinstance(event, AttemptEnded)}
    return [
        Attempt(number=number, began=began.get(number), ended=ended.get(number))
        for number in sorted({*began, *ended})
    ]


def latest_history(events: Sequence[AttemptEvent]) -> list[Attempt]:
    """The attempts that the trial's files are of: those after the last change of the code."""
    attempts = attempts_of(events)
    codes = [attempt.began.code_sha256 for attempt in attempts if attempt.began is not None]
    first = 0
    for index, attempt in enumerate(attempts):
        if attempt.began is not None and attempt.began.code_sha256 != codes[-1]:
            first = index + 1
    return attempts[first:]


def time_lost_s(attempts: Sequence[Attempt]) -> float | None:
    """Seconds of training that failed attempts did in vain: steps that had to be done again.

    Of each failed attempt the share of its steps that the next one did again; all of it where it
    did none. None where no attempt failed, or none came after it.
    """
    known = [
        lost
        for attempt, following in pairwise(attempts)
        if (lost := _lost_s(attempt, following)) is not None
    ]
    return sum(known) if known else None


def _lost_s(attempt: Attempt, following: Attempt) -> float | None:
    began, ended, took = attempt.began, attempt.ended, attempt.duration_s
    if not attempt.failed or began is None or ended is None or took is None:
        return None
    done = ended.step - began.resumed_step
    if done <= 0 or following.began is None:
        return took
    return took * min(1.0, max(0, ended.step - following.began.resumed_step) / done)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _tail(place: WorkerPlace) -> str | None:
    if place.log is None or place.host != platform.node():
        return None
    try:
        with Path(place.log).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return None
    return "\n".join(text.splitlines()[-TAIL_LINES:])
