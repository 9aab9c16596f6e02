"""How many trials may be under way on a cluster that others use too, and that grows and shrinks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import ray
from ray._private.state import state

from harness.study.placement import ResourcesConfig
from tune.cluster.capacity import Capacity, can_come, fits, needs, trials_at_once
from tune.cluster.connection import capacity
from tune.cluster.neighbours import studies_here, study_of

LOOK_EVERY_S = 2.0
NO_ROOM_S = 60.0
"""A node that is lost may come back within a minute."""
PATIENCE_S, SAY_AGAIN_S = 10.0, 600.0
"""A gang that finds room has it within seconds; a person who waits for hours reads few lines."""


@dataclass(frozen=True, kw_only=True)
class Sight:
    """A cluster as it was seen.

    `studies`: under way there, the oldest first, and `own` among them; `waits`: whether gangs of
    ours have asked for room and none has got it.
    """

    capacity: Capacity
    studies: tuple[str, ...]
    own: str
    waits: bool


def look(own: str | None, under_way: bool) -> Sight:
    """At the connected Ray; while trials are under way nobody asks what waits, a long list."""
    return Sight(
        capacity=capacity(),
        studies=tuple(studies_here(own)),
        own=own or "",
        waits=not under_way and _waits(),
    )


def _waits() -> bool:
    """The id of a placement group ends with that of its job, which is this driver."""
    job = ray.get_runtime_context().get_job_id()
    groups = state.placement_group_table().items()
    states = {group["state"] for name, group in groups if name.endswith(job)} - {"REMOVED"}
    return states == {"PENDING"}


class Room:
    """Looks at the cluster every few seconds.

    Args:
        see: `look`, with this study's name; it is told whether trials are under way.
        say: told, in a sentence, why nothing is trained and when the share changes.
    """

    def __init__(
        self,
        resources: ResourcesConfig,
        *,
        see: Callable[[bool], Sight],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.resources, self.see, self.say, self.clock = resources, see, say, clock
        self.sight = see(True)
        self.allowed = self._allowed()
        self.looked = self.busy = self.had_room = self.lacked_room = clock()
        self.said: tuple[str, float] | None = None  # the last reason for waiting, and when

    def limit(self) -> int:
        """How many trials may run or wait for room."""
        return self.allowed

    def _allowed(self) -> int:
        sight = self.sight
        return trials_at_once(
            self.resources,
            sight.capacity,
            most=self.resources.max_concurrent_trials,
            studies=len(sight.studies),
            place=sight.studies.index(sight.own),
        )

    def lacking(self, *, under_way: bool) -> str | None:
        """Looks again if it is time.

        Args:
            under_way: whether any trial of this driver is being trained.

        Returns:
            why no trial can have room any more; None: go on.
        """
        now = self.clock()
        if under_way:
            self.busy, self.said = now, None
        if now - self.looked < LOOK_EVERY_S:
            return None
        self.looked, before, self.sight = now, self.sight, self.see(under_way)
        self.allowed = self._allowed()
        self._tell_share(before)
        if under_way or fits(self.resources, self.sight.capacity):
            self.had_room = now
        else:
            self.lacked_room = now
        if under_way or now - self.busy < PATIENCE_S:
            return None
        return self._waiting(now)

    def _waiting(self, now: float) -> str | None:
        has, wanted = self.sight.capacity, needs(self.resources)
        if not fits(self.resources, has):
            if can_come(self.resources, has):
                self._tell(
                    f"waiting for the cluster to grow: {has}, can grow to {has.growth}, and one "
                    f"trial needs {wanted}",
                    now,
                )
            elif self.resources.max_concurrent_trials is not None:
                self._tell(f"waiting for room: {has}, and one trial needs {wanted}", now)
            elif now - self.had_room > NO_ROOM_S:
                return (
                    f"no trial has room any more: {has}, and one needs {wanted}: run the same "
                    "command again with more nodes, or with --set resources.workers=1; what was "
                    "trained is kept"
                )
        elif self.sight.waits and now - self.lacked_room >= PATIENCE_S:
            self._tell(f"waiting for room: {has}, and {self._users()} uses them", now)
        return None

    def _users(self) -> str:
        others = [study_of(name) for name in self.sight.studies if name != self.sight.own]
        return f"{', '.join(others[:3])} or another job" if others else "another job"

    def _tell(self, what: str, now: float) -> None:
        if self.said is None or self.said[0] != what or now - self.said[1] > SAY_AGAIN_S:
            self.said = what, now
            self.say(what)

    def _tell_share(self, before: Sight) -> None:
        if len(before.studies) != len(self.sight.studies):
            count = len(self.sight.studies)
            others = f"{count} studies share the cluster now" if count > 1 else "no other study now"
            self.say(f"{others}: up to {self.limit()} trial(s) of this one at once")
