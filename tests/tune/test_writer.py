"""One thread writes in order; the loop hears of it when it asks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from tune.recording.writer import Writer


@pytest.fixture(autouse=True)
def local_ray() -> None:
    """None is needed here."""


def told_of(heard: list[Any]) -> Callable[[Any], None]:
    return lambda result: heard.append((result, threading.current_thread()))


def test_all_is_done_in_order_and_told_in_order_in_the_thread_that_asks() -> None:
    writer, done, heard = Writer(), list[int](), list[Any]()
    for number in range(200):
        writer.put(lambda n=number: done.append(n) or n, told_of(heard))  # type: ignore[misc]
    assert writer.flush(patience_s=10) == 0
    assert heard == [], "nobody asked"
    writer.drain()
    assert done == list(range(200))
    assert heard == [(number, threading.main_thread()) for number in range(200)]
    writer.stop()


def test_what_follows_from_an_errand_is_awaited_as_the_errand_was() -> None:
    writer, heard = Writer(), list[Any]()
    first = threading.Event()
    writer.put(first.wait, lambda _: writer.put(int, told_of(heard), awaited=True), awaited=True)
    assert not writer.is_settled
    first.set()
    writer.flush(patience_s=10)
    assert not writer.is_settled, "done, but nobody has heard of it"
    writer.drain()
    assert not writer.is_settled, "the second one is under way"
    writer.flush(patience_s=10)
    writer.drain()
    assert heard
    assert writer.is_settled
    assert writer.is_idle
    writer.stop()


def test_after_an_errand_that_fails_nothing_is_tried_and_the_failure_is_told_once() -> None:
    writer, heard = Writer(), list[Any]()
    gate = threading.Event()
    writer.put(gate.wait, told_of(heard))
    writer.put(lambda: 1 / 0, told_of(heard), awaited=True)
    writer.put(lambda: pytest.fail("after a gap"), told_of(heard), awaited=True)
    gate.set()
    writer.flush(patience_s=10)
    with pytest.raises(ZeroDivisionError):
        writer.drain()
    writer.put(lambda: pytest.fail("after a gap"), told_of(heard), awaited=True)
    writer.drain()
    assert [result for result, _ in heard] == [True]
    assert writer.is_settled
    assert writer.is_idle


def test_a_disk_that_stands_still_is_waited_for_in_vain_and_then_not_at_all() -> None:
    writer, gate = Writer(), threading.Event()
    for _ in range(3):
        writer.put(gate.wait, lambda _: None)
    assert writer.flush(patience_s=0.05) == 3
    gate.set()
    assert writer.flush(patience_s=10) == 0
    writer.stop()


def test_whoever_has_too_much_to_write_waits() -> None:
    writer, gate, in_there = Writer(most_waiting=3), threading.Event(), threading.Event()
    for _ in range(3):
        writer.put(gate.wait, lambda _: None)
    fourth = threading.Thread(
        target=lambda: (writer.put(gate.wait, lambda _: None), in_there.set())
    )
    fourth.start()
    assert not in_there.wait(0.1)
    gate.set()
    assert in_there.wait(10)
    fourth.join()
    writer.flush(patience_s=10)
    writer.stop()
