"""Work that is done by several threads, and ends with all of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from harness.tracking.side_by_side import for_each


def test_each_item_is_worked_on_once_and_by_several_at_a_time() -> None:
    together, done = threading.Barrier(4, timeout=60), list[int]()

    def work(item: int) -> None:
        together.wait()  # only four at the same time come past it
        done.append(item)

    for_each(range(40), work, threads=4, stop=threading.Event())
    assert sorted(done) == list(range(40))


def test_alone_it_keeps_the_order() -> None:
    done: list[int] = []
    for_each(iter(range(40)), done.append, threads=1, stop=threading.Event())
    assert done == list(range(40))


@pytest.mark.parametrize("threads", [1, 4])
def test_after_an_error_nothing_new_begins_and_nobody_is_at_work(threads: int) -> None:
    begun: list[int] = []

    def work(item: int) -> None:
        begun.append(item)
        if item == 5:
            raise OSError("away")

    before = threading.active_count()
    with pytest.raises(OSError, match="away"):
        for_each(range(10_000), work, threads=threads, stop=threading.Event())
    assert threading.active_count() == before
    assert len(begun) < 10_000


def test_an_item_that_cannot_be_read_is_an_error() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        for_each(items(), lambda _: None, threads=3, stop=threading.Event())


@pytest.mark.parametrize("threads", [1, 4])
def test_it_stops_when_told(threads: int) -> None:
    stop, begun = threading.Event(), list[int]()

    def work(item: int) -> None:
        begun.append(item)
        if item == 5:
            stop.set()

    with pytest.raises(TimeoutError):
        for_each(range(10_000), work, threads=threads, stop=stop)
    assert len(begun) < 10_000
