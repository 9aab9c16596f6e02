"""Checkpoints in the driver's folder, kept from a host that does not see it: a `Folder`."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from tune.delivery.driver_files import CHUNK_BYTES, answer, chunk_of, in_flight

Beat = Callable[[], None]


class DriverFolder:
    """A `harness.training.checkpoint.storage.Folder`. Files are written here first, then uploaded.

    Args:
        actor: the driver's `DriverFiles`.
        study: the study's folder, as the driver calls it.
        path: this folder, on the driver's host.
        beat: called with every chunk.
        chunk_bytes: of one call.
    """

    def __init__(
        self,
        actor: Any,
        study: str,
        path: Path,
        beat: Beat = lambda: None,
        *,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        self.actor, self.study, self.path, self.beat = actor, study, path, beat
        self.chunk_bytes = chunk_bytes
        self.where = str(path)
        self._parts = path.relative_to(study).parts
        self._held: Path | None = None

    def __str__(self) -> str:
        return self.where

    def child(self, name: str) -> DriverFolder:
        return DriverFolder(
            self.actor, self.study, self.path / name, self.beat, chunk_bytes=self.chunk_bytes
        )

    def names(self) -> list[str]:
        names: list[str] = self._ask("names")
        return names

    def size(self, name: str) -> int | None:
        size: int | None = self._ask("size", name)
        return size

    def sha256(self, name: str) -> str:
        sha256: str = self._ask("sha256", name)
        return sha256

    def remove(self, name: str) -> None:
        self._ask("remove", name)

    def temporary(self) -> Path:
        handle, path = tempfile.mkstemp(prefix="optbench-checkpoint-")
        os.close(handle)
        return Path(path)

    def put(self, name: str, written: Path) -> None:
        temporary = self._ask("begin")
        try:
            for _ in in_flight(self._writes(temporary, written)):
                self.beat()
            self._ask("finish", temporary, name)
        except BaseException:
            self.actor.give_up.remote(self._parts, temporary)
            raise
        written.unlink()

    def _writes(self, temporary: str, written: Path) -> Iterator[Callable[[], Any]]:
        for at in range(0, written.stat().st_size, self.chunk_bytes):
            chunk = chunk_of(written, at, self.chunk_bytes)
            yield partial(self.actor.write.remote, self._parts, temporary, at, chunk)

    def stream(self, name: str) -> BinaryIO:
        return io.BufferedReader(_Chunks(self._chunks(name)), self.chunk_bytes)

    def _chunks(self, name: str) -> Iterator[Any]:
        size = self.size(name)
        if size is None:
            raise FileNotFoundError(f"{self.where}/{name} is not there")
        reads = (
            partial(self.actor.read.remote, self._parts, name, at, self.chunk_bytes)
            for at in range(0, size, self.chunk_bytes)
        )
        for chunk in in_flight(reads):
            self.beat()
            yield chunk

    def fetch(self) -> None:
        """Brings every file here, for `local` to find: before others wait for this worker."""
        self._held = Path(tempfile.mkdtemp(prefix="optbench-resume-"))
        weakref.finalize(self, shutil.rmtree, self._held, ignore_errors=True)
        for name in self.names():
            self._copy(name, self._held)

    def local(self, name: str, scratch: Path) -> Path:
        if self._held is not None and (held := self._held / name).exists():
            return held.rename(scratch / name)
        return self._copy(name, scratch)

    def _copy(self, name: str, into: Path) -> Path:
        with (into / name).open("wb") as file:
            for chunk in self._chunks(name):
                file.write(chunk)
        return into / name

    def _ask(self, method: str, *arguments: Any) -> Any:
        return answer(getattr(self.actor, method).remote(self._parts, *arguments))


class _Chunks(io.RawIOBase):
    """A file of chunks, to be read once from its beginning."""

    def __init__(self, chunks: Iterator[Any]) -> None:
        self._chunks, self._left = chunks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            self._left = memoryview(next(self._chunks, b""))
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count
