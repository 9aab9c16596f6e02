"""How many trials run at once follows the cluster: its nodes, what may come, who else is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from idle_trials import answer_of

from harness.study.placement import ResourcesConfig
from tune.cluster.capacity import Capacity, Growth
from tune.cluster.room import NO_ROOM_S, PATIENCE_S, SAY_AGAIN_S, Room, Sight

SCRIPT = Path(__file__).with_name("changing_cluster.py")
OLDER, YOUNGER = "0000000001.000000 11 older", "0000000002.000000 22 younger"


class Scene:
    """A cluster and a clock that a test moves."""

    def __init__(self, *nodes: tuple[float, float], growth: Growth | None = None) -> None:
        self.nodes, self.growth, self.now = nodes, growth, 0.0
        self.studies: tuple[str, ...] = (OLDER,)
        self.waits = True
        self.said: list[str] = []

    def see(self, under_way: bool) -> Sight:
        has = Capacity(nodes=self.nodes, where="this cluster", growth=self.growth)
        return Sight(capacity=has, studies=self.studies, own=OLDER, waits=self.waits)

    def room(self, **resources: Any) -> Room:
        settings = ResourcesConfig(**resources)
        return Room(settings, see=self.see, say=self.said.append, clock=lambda: self.now)

    def after(self, seconds: float, room: Room, *, under_way: bool = False) -> str | None:
        self.now += seconds
        return room.lacking(under_way=under_way)


def test_a_node_more_or_less_changes_how_many_run_at_once() -> None:
    scene = Scene((2, 0))
    room = scene.room(workers=2)
    assert room.limit() == 1
    scene.nodes = ((2, 0), (4, 0))
    scene.after(5, room, under_way=True)
    assert room.limit() == 3
    scene.nodes = ((2, 0),)
    scene.after(5, room, under_way=True)
    assert room.limit() == 1
    assert not scene.said


def test_a_cluster_that_can_grow_is_waited_for_with_a_line_now_and_then() -> None:
    scene = Scene((0, 0), growth=Growth(groups=((2, 0, 2),), most_nodes=2))
    room = scene.room(workers=2)
    assert room.limit() == 2, "the autoscaler must see what could run"
    assert scene.after(5, room) is None
    assert not scene.said, "nodes that are there give room within seconds"
    scene.after(PATIENCE_S, room)
    (line,) = scene.said
    assert line.startswith(
        "waiting for the cluster to grow: this cluster has no CPU core, can grow"
    )
    assert "2 node(s) of 2 CPU core(s)" in line
    for _ in range(100):
        assert scene.after(NO_ROOM_S, room) is None, "never ended for want of room"
    assert len(scene.said) == 1 + 100 * NO_ROOM_S // SAY_AGAIN_S - 1


def test_a_fixed_cluster_that_lost_its_room_ends_the_study_after_a_minute() -> None:
    scene = Scene((2, 0))
    room = scene.room(workers=2)
    scene.nodes = ((1, 0),)
    assert scene.after(NO_ROOM_S - 1, room) is None
    lacking = scene.after(5, room)
    assert lacking is not None
    assert lacking.startswith("no trial has room any more: this cluster has 1 CPU core(s)")


def test_who_sets_the_number_of_trials_is_waited_for() -> None:
    scene = Scene((1, 0))
    room = scene.room(workers=2, max_concurrent_trials=4)
    assert room.limit() == 4
    assert scene.after(10 * NO_ROOM_S, room) is None
    (line,) = scene.said
    assert line.startswith("waiting for room: this cluster has 1 CPU core(s)")


def test_studies_share_what_fits_and_are_told_when_one_comes_or_goes() -> None:
    scene = Scene((5, 0))
    room = scene.room()
    assert room.limit() == 5
    scene.studies = (OLDER, YOUNGER)
    scene.after(5, room, under_way=True)
    assert room.limit() == 3, "the remainder is the older one's"
    scene.studies = (OLDER,)
    scene.after(5, room, under_way=True)
    assert room.limit() == 5
    assert scene.said == [
        "2 studies share the cluster now: up to 3 trial(s) of this one at once",
        "no other study now: up to 5 trial(s) of this one at once",
    ]


def test_room_that_others_use_is_said_and_waited_for() -> None:
    scene = Scene((4, 0))
    scene.studies = (OLDER, YOUNGER)
    room = scene.room()
    assert scene.after(PATIENCE_S, room) is None
    assert scene.said == [
        "waiting for room: this cluster has 4 CPU core(s), and younger or another job uses them"
    ]


def test_a_gang_that_starts_slowly_does_not_wait_for_room() -> None:
    scene = Scene((4, 0))
    scene.waits = False
    room = scene.room()
    assert scene.after(10 * PATIENCE_S, room) is None
    assert not scene.said


@pytest.mark.faults
def test_on_a_real_cluster_the_trials_at_once_follow_its_nodes_and_its_studies(
    study_file: Path, tmp_path: Path
) -> None:
    changed = answer_of(SCRIPT, study_file, tmp_path)
    second = changed.pop("second")
    said = changed.pop("said")
    assert changed == {
        "one node": 1,
        "two nodes": 3,
        "shared": 2,
        "alone again": 3,
        "one node left": 1,
    }
    assert (second["at once"], second["ended"]) == (1, 8)
    assert [line.split(":")[0] for line in said] == [
        "2 studies share the cluster now",
        "no other study now",
    ]
