"""When a gang stands still, and who holds it up."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tune.gangs.heartbeats import STALL_FACTOR, Heard, find_stall
from tune.patience import SLOW_STAGE_S

TIMEOUT_S = 30.0


def heard(at: float, **pulse: Any) -> Heard:
    return Heard(at, {"doing": "training", "step": 5, "beats": 9, "since_s": 0.0, **pulse})


def stall(*workers: Heard, now: float) -> int | None:
    found = find_stall(dict(enumerate(workers)), now, timeout_s=TIMEOUT_S)
    return None if found is None else found.rank


def test_a_worker_that_does_not_answer_is_the_one() -> None:
    assert stall(heard(100.0), heard(100.0), now=129.0) is None
    assert stall(heard(131.0), heard(100.0), now=131.0) == 1


def test_where_all_answer_and_nobody_moves_the_one_behind_is_to_blame() -> None:
    waiting = heard(200.0, since_s=40.0, beats=12)
    asleep = heard(200.0, since_s=45.0, beats=11)
    assert stall(waiting, asleep, now=200.0) == 1
    assert stall(waiting, heard(200.0, since_s=1.0), now=200.0) is None, "it moves"


def test_a_gang_of_one_is_found_too() -> None:
    assert stall(heard(200.0, since_s=31.0), now=200.0) == 0


def test_slow_steps_and_slow_starts_have_their_time() -> None:
    slow = heard(0.0, since_s=TIMEOUT_S * 3, longest_s=TIMEOUT_S * 4 / STALL_FACTOR)
    assert stall(slow, now=0.0) is None
    for doing in ("setting up", "first step", "saving"):
        assert stall(heard(0.0, doing=doing, since_s=SLOW_STAGE_S - 1.0), now=0.0) is None
        assert stall(heard(0.0, doing=doing, since_s=SLOW_STAGE_S + 1.0), now=0.0) == 0


@given(st.lists(st.floats(0.0, TIMEOUT_S), min_size=1, max_size=8))
def test_whoever_moved_within_the_timeout_is_left_alone(since: list[float]) -> None:
    assert stall(*(heard(0.0, since_s=s) for s in since), now=0.0) is None
