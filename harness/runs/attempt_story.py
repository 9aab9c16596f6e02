"""The attempts of one trial, each with its beginning, its end, and the logs of its workers."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from harness.runs.attempts import AttemptBegan, AttemptEnded, AttemptEvent, WorkerPlace

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
