"""What a worker does, for another thread of it that tells whether it still does anything."""

from __future__ import annotations

import time
from typing import Any, Literal

Doing = Literal["setting up", "first step", "training", "evaluating", "saving"]


class Pulse:
    """Beaten by the thread that trains, read by any other; no lock, and no cost.

    Every field is a plain value that one thread writes. A reader may see the step of one beat and
    the time of the next, which no decision about seconds notices.

    Args:
        step: The optimizer step that is done or under way.
        doing: What the worker began at the last beat or before.
        beats: How often it has beaten.
        longest_s: The longest time between two beats while training: what is normal for a step.
    """

    def __init__(self) -> None:
        self.step = 0
        self.doing: Doing = "setting up"
        self.beats = 0
        self.longest_s = 0.0
        self._last = time.monotonic()

    def beat(self, doing: Doing, *, step: int | None = None) -> None:
        now = time.monotonic()
        if self.doing == doing == "training":
            self.longest_s = max(self.longest_s, now - self._last)
        if step is not None:
            self.step = step
        self.doing, self._last = doing, now
        self.beats += 1

    def since_s(self) -> float:
        """Seconds since the last beat."""
        return time.monotonic() - self._last

    def values(self) -> dict[str, Any]:
        """All of it as plain values, to be sent."""
        return {
            "step": self.step,
            "doing": self.doing,
            "beats": self.beats,
            "longest_s": self.longest_s,
            "since_s": self.since_s(),
        }
