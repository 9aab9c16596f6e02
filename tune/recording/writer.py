"""One thread that does the disk's work in order, so that Tune's loop never waits for a disk."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

MOST_WAITING = 4096
"""Records that may wait for the disk, of a few kilobytes each: then whoever has more waits too."""


@dataclass(frozen=True)
class Errand:
    """What the disk is to do, and who is told of it afterwards."""

    work: Callable[[], Any]
    then: Callable[[Any], None]
    awaited: bool


class Writer:
    """Does one errand after another in a thread of its own, and reports back when asked.

    What is on the disk is therefore always a beginning of what was handed in: a reader, and the
    next run after this process was killed, never finds an effect without its cause. The first
    errand that fails is the last one that is tried, for the same reason.
    """

    def __init__(self, *, most_waiting: int = MOST_WAITING) -> None:
        self.most_waiting = most_waiting
        self._changed = threading.Condition()
        self._waiting: deque[Errand] = deque()
        self._left = 0  # handed in and not yet done, that under way included
        self._done: deque[tuple[Errand, Any]] = deque()
        self._awaited = 0
        self._failure: Exception | None = None
        self._failed = self._stopped = False
        self._thread: threading.Thread | None = None

    # In the thread of the loop.

    def put(
        self, work: Callable[[], Any], then: Callable[[Any], None], *, awaited: bool = False
    ) -> None:
        """Hands in an errand. Waits only where too many wait already: better slow than too big.

        Args:
            then: gets what `work` returned, in the thread that calls `drain`.
            awaited: whether `is_settled` waits for it.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._failed or self._left < self.most_waiting)
            if self._failed:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
                self._thread.start()
            self._waiting.append(Errand(work, then, awaited))
            self._left += 1
            self._awaited += awaited
            self._changed.notify_all()

    def drain(self) -> None:
        """Tells of all that is done, in order.

        Raises:
            Exception: what the first errand that failed raised; once.
        """
        while self._done:
            errand, result = self._done.popleft()
            errand.then(result)  # may hand in the next errand, which is then awaited instead
            self._awaited -= errand.awaited
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    @property
    def is_settled(self) -> bool:
        """Whether everything awaited is done and told of, or never will be."""
        return self._failed or self._awaited == 0

    @property
    def is_idle(self) -> bool:
        """Whether everything is done and told of, or never will be."""
        return self._failed or (self._left == 0 and not self._done)

    def flush(self, *, patience_s: float) -> int:
        """Waits for the disk, as long as it takes one errand after another.

        Args:
            patience_s: that one errand may take.

        Returns:
            how many are left: not zero where the disk stands still.
        """
        with self._changed:
            while left := self._left:
                if not self._changed.wait_for(partial(self._is_below, left), patience_s):
                    break
            return left

    def _is_below(self, left: int) -> bool:
        return self._left < left

    def stop(self) -> None:
        """Ends the thread; what it has not begun is left out."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    # In the writer's thread.

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopped)
                if self._stopped:
                    return
                errand = self._waiting.popleft()
            try:
                result = errand.work()
            except Exception as error:
                with self._changed:
                    self._failure, self._failed, self._left = error, True, 0
                    self._waiting.clear()
                    self._changed.notify_all()
                return
            with self._changed:
                self._done.append((errand, result))
                self._left -= 1
                self._changed.notify_all()
