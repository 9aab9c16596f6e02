"""One piece of work for many items, several at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def for_each(
    items: Iterable[T], work: Callable[[T], object], *, threads: int, stop: threading.Event
) -> None:
    """Returns when all is done; after an error, or when told to stop, nothing new begins.

    Items are taken one by one, as they are needed, so they need not all be in memory. The threads
    do not keep a process alive that wants to end, as those of an executor would.

    Raises:
        Exception: the first one of `work` or of `items`, when no thread works any more.
        TimeoutError: it was told to stop.
    """
    taken, errors, taking = iter(items), list[BaseException](), threading.Lock()

    def take() -> Iterator[T]:
        while True:
            with taking:
                if errors or stop.is_set():
                    return
                try:
                    item = next(taken)
                except StopIteration:
                    return
            yield item

    def run() -> None:
        try:
            for item in take():
                work(item)
        except BaseException as error:
            errors.append(error)

    team = [threading.Thread(target=run, daemon=True) for _ in range(threads - 1)]
    for thread in team:
        thread.start()
    run()
    for thread in team:
        thread.join()
    if errors:
        raise errors[0]
    if stop.is_set():
        raise TimeoutError("it was told to stop")
