"""The driver's files for workers on hosts that do not see its disk: an actor on the driver's node.

It serves the data of the study and keeps the checkpoints of its trials, in chunks that travel
through Ray's object store. It ends with the driver, and so do the trials.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypedDict

import ray
from ray._private import worker
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

CHUNK_BYTES = 16 * 2**20
"""Large beside the time of a call (about 1 ms), small beside any host's memory."""

IN_FLIGHT = 4
"""Chunks of one file that are asked for at once: a host never holds more of it than these."""

THREADS = 8

PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


class Driver(TypedDict):
    """What a trial's configuration tells a worker of its driver, in plain values.

    `node` is the id of the driver's Ray node, `files` the name of its actor: None where no other
    host can train.
    """

    node: str
    study: str
    dataset_path: str
    files: str | None


def introduce(*, dataset_path: Path, study: Path | None = None) -> Driver:
    """Lets workers on other hosts have the data of this study and keep checkpoints in its folder.

    The actor starts with the first call, unless Ray is this driver's own and this machine alone.
    Should it die, Ray starts it again.
    """
    node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""
    driver = Driver(node=node, study=str(study or ""), dataset_path=str(dataset_path), files=None)
    if not node or _alone():
        return driver
    served = hashlib.sha256(f"{driver['study']}\n{driver['dataset_path']}".encode()).hexdigest()
    name = f"optbench-files-{ray.get_runtime_context().get_job_id()}-{served[:12]}"
    try:
        ray.get_actor(name)
    except ValueError:
        options = {"name": name, "num_cpus": 0, "max_concurrency": THREADS, "max_restarts": -1}
        here = NodeAffinitySchedulingStrategy(node, soft=False)
        remote = ray.remote(DriverFiles).options(**options, scheduling_strategy=here)
        _kept[name] = remote.remote(driver["dataset_path"], driver["study"])
    return {**driver, "files": name}


def dismiss(driver: Driver) -> None:
    """Ends the actor, if there is one."""
    if driver["files"] is not None:
        _kept.pop(driver["files"], None)


_kept: dict[str, Any] = {}
"""Ray ends an actor once the handle is gone that came from making it."""


def _alone() -> bool:
    """Whether this driver has started its Ray itself, which nobody has joined."""
    started: Any = getattr(worker, "_global_node", None)
    return started is not None and started.is_head() and len(ray.nodes()) == 1


class DriverFiles:
    """Reads of the data, and reads and writes below `trials/KEY/checkpoints` of the study.

    A path is one of these two folders, and plain names below it.
    """

    def __init__(self, dataset_path: str, study: str) -> None:
        self.dataset_path, self.study = Path(dataset_path), Path(study)
        self.served_bytes = 0

    def served(self) -> int:
        """Bytes of data that were read so far: whether something moves."""
        return self.served_bytes

    def owner(self) -> bytes | None:
        """What stands in owner.json: by it a worker knows this folder when it sees it."""
        path = self.study / "owner.json"
        return path.read_bytes() if path.is_file() else None

    def data_size(self, name: str) -> int:
        return self._data(name).stat().st_size

    def read_data(self, name: str, offset: int, count: int) -> Any:
        chunk = chunk_of(self._data(name), offset, count)
        self.served_bytes += chunk.size
        return chunk

    def _data(self, name: str) -> Path:
        from harness.data.delivered import FILES

        if name not in FILES:
            raise ValueError(f"{name!r} is no file of a data folder")
        return self.dataset_path / name

    def folder(self, parts: tuple[str, ...]) -> Any:
        """The folder of a trial's checkpoints, or one checkpoint in it.

        Raises:
            ValueError: these names lead anywhere else.
        """
        from harness.training.checkpoint.storage import LocalFolder

        place = len(parts) in (3, 4) and (parts[0], parts[2]) == ("trials", "checkpoints")
        if not self.study.name or not place or not all(map(PLAIN_NAME.fullmatch, parts)):
            raise ValueError(f"{'/'.join(parts)!r} is no folder of checkpoints")
        return LocalFolder(self.study.joinpath(*parts))

    def names(self, parts: tuple[str, ...]) -> list[str]:
        names: list[str] = self.folder(parts).names()
        return names

    def size(self, parts: tuple[str, ...], name: str) -> int | None:
        size: int | None = self.folder(parts).size(_plain(name))
        return size

    def sha256(self, parts: tuple[str, ...], name: str) -> str:
        """Read and hashed here: the file does not travel for it."""
        sha256: str = self.folder(parts).sha256(_plain(name))
        return sha256

    def remove(self, parts: tuple[str, ...], name: str) -> None:
        self.folder(parts).remove(_plain(name))

    def read(self, parts: tuple[str, ...], name: str, offset: int, count: int) -> Any:
        return chunk_of(self.folder(parts).path / _plain(name), offset, count)

    def begin(self, parts: tuple[str, ...]) -> str:
        """Name of a hidden file that chunks can be written into."""
        name: str = self.folder(parts).temporary().name
        return name

    def write(self, parts: tuple[str, ...], temporary: str, offset: int, chunk: Any) -> None:
        """Chunks may come in any order."""
        with (self.folder(parts).path / _hidden(temporary)).open("rb+") as file:
            file.seek(offset)
            file.write(chunk)

    def finish(self, parts: tuple[str, ...], temporary: str, name: str) -> None:
        """The hidden file is whole: to the disk, and under its name."""
        folder = self.folder(parts)
        folder.put(_plain(name), folder.path / _hidden(temporary))

    def give_up(self, parts: tuple[str, ...], temporary: str) -> None:
        (self.folder(parts).path / _hidden(temporary)).unlink(missing_ok=True)


def _plain(name: str) -> str:
    if not PLAIN_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a file")
    return name


def _hidden(name: str) -> str:
    return "." + _plain(name.removeprefix("."))


def chunk_of(path: Path, offset: int, count: int) -> Any:
    """At most `count` bytes of a file as an array, which Ray hands over without copying it."""
    import numpy as np

    return np.fromfile(path, dtype=np.uint8, count=count, offset=offset)


def answer(reference: Any) -> Any:
    """What the actor answers; its exceptions are raised as they were there.

    Raises:
        OSError: it does not answer any more.
    """
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise OSError(f"the driver's node does not answer: {reason}") from None


def in_flight(calls: Iterable[Callable[[], Any]]) -> Iterator[Any]:
    """The answers to calls, in order, some of which are always under way."""
    asked: deque[Any] = deque()
    for call in calls:
        asked.append(call())
        if len(asked) == IN_FLIGHT:
            yield answer(asked.popleft())
    while asked:
        yield answer(asked.popleft())
