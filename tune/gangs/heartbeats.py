"""When a gang stands still: what its workers answered, and when. Knows nothing of Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tune.patience import SLOW_STAGE_S

STALL_FACTOR = 20.0
"""A step may take this many times as long as the longest one before it."""

STEADY = ("training", "evaluating")


@dataclass
class Heard:
    """The last heartbeat of a worker, and when it came, by `time.monotonic`."""

    at: float
    pulse: Mapping[str, Any] = field(default_factory=dict)

    @property
    def step(self) -> int:
        return int(self.pulse.get("step", 0))

    @property
    def beats(self) -> int:
        return int(self.pulse.get("beats", 0))


@dataclass(frozen=True, kw_only=True)
class Stall:
    """Which worker holds the others up, and how one sees it."""

    rank: int
    cause: str


def find_stall(heard: Mapping[int, Heard], now: float, *, timeout_s: float) -> Stall | None:
    """The worker that is silent, or that has come least far while nobody moves; None: all is well.

    Args:
        heard: by rank.
        now: by `time.monotonic`.
        timeout_s: a worker answers also while it computes; one that does not for so long has
            stopped. A step may take as long at least.
    """
    silent = max(heard, key=lambda rank: now - heard[rank].at)
    if (since := now - heard[silent].at) > timeout_s:
        return Stall(
            rank=silent,
            cause=f"worker {silent} has not answered for {since:.0f} s: its process or its host "
            "stands still",
        )
    since = min(_stands_for(each, now) for each in heard.values())
    limit = max(_limit(each, timeout_s) for each in heard.values())
    if since <= limit:
        return None
    last = min(heard, key=lambda rank: heard[rank].beats)
    doing = heard[last].pulse.get("doing", "training")
    return Stall(
        rank=last,
        cause=f"no worker has moved for {since:.0f} s (allowed: {limit:.0f} s); worker {last} has "
        f"come least far: {doing} at step {heard[last].step}",
    )


def _stands_for(heard: Heard, now: float) -> float:
    """Seconds since the worker last moved: as it said, and since it said so."""
    return float(heard.pulse.get("since_s", 0.0)) + now - heard.at


def _limit(heard: Heard, timeout_s: float) -> float:
    if heard.pulse.get("doing") not in STEADY:
        return SLOW_STAGE_S
    return max(timeout_s, STALL_FACTOR * float(heard.pulse.get("longest_s", 0.0)))
