"""A folder that appears whole or not at all, made by one of many processes that want it."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOOK_EVERY_S = 1.0


@contextmanager
def new_folder(
    final: Path, *, is_there: Callable[[], bool], waiting: Callable[[], None]
) -> Iterator[Path | None]:
    """An empty folder beside `final` that takes its place when the block ends well.

    The lock dies with its process; what a killed process left behind goes with the next one.

    Args:
        is_there: asked again once it is this process's turn.
        waiting: called about once a second while another process has its turn.

    Yields:
        None where `final` is there already, made while this process waited.

    Raises:
        OSError: nothing can be written there.
    """
    with _turn(final, waiting):
        if is_there():
            yield None
            return
        for leftover in leftovers(final):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary = _beside(final)
        temporary.mkdir()
        try:
            yield temporary
            flush(temporary)
            if final.exists():  # damaged, and perhaps still read by somebody
                final.rename(_beside(final))
            temporary.rename(final)
        finally:
            for leftover in leftovers(final):
                shutil.rmtree(leftover, ignore_errors=True)


def leftovers(final: Path) -> Iterator[Path]:
    """What is being made now, or what a killed process left."""
    return final.parent.glob(f".{final.name}-*")


def _beside(final: Path) -> Path:
    return final.with_name(f".{final.name}-{secrets.token_hex(4)}")


@contextmanager
def _turn(final: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Only one process at a time."""
    from filelock import FileLock, Timeout

    final.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(final.with_name(f"{final.name}.lock"))
    timeout = 0.0
    while not lock.is_locked:
        try:
            lock.acquire(timeout=timeout)
        except Timeout:
            waiting()
            timeout = LOOK_EVERY_S
    try:
        yield
    finally:
        lock.release()


def flush(folder: Path) -> None:
    """To the disk, before the folder gets the name under which it counts as complete."""
    for path in [*folder.iterdir(), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
