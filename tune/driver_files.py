"""The driver's files for workers on hosts that do not see its disk: an actor on the driver's node.

It serves the data of the study and keeps the checkpoints of its trials, in chunks that travel
through Ray's object store. It ends with the driver, and so do the trials.
"""

from __future__ import annotations

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
    """
    node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""
    driver = Driver(node=node, study=str(study or ""), dataset_path=str(dataset_path), files=None)
    if not node or _alone():
        return driver
    name = f"optbench-files-{ray.get_runtime_context().get_job_id()}"
    try:
        actor = ray.get_actor(name)
    except ValueError:
        options = {"name": name, "num_cpus": 0, "max_concurrency": THREADS}
        here = NodeAffinitySchedulingStrategy(node, soft=False)
        remote = ray.remote(DriverFiles).options(**options, scheduling_strategy=here)
        _kept[name] = actor = remote.remote()
    ray.get(actor.open.remote(driver["study"], driver["dataset_path"]))
    return {**driver, "files": name}


_kept: dict[str, Any] = {}
"""Ray ends an actor once the handle is gone that came from making it."""


def _alone() -> bool:
    """Whether this driver has started its Ray itself, which nobody has joined."""
    started: Any = getattr(worker, "_global_node", None)
    return started is not None and started.is_head() and len(ray.nodes()) == 1


class DriverFiles:
    """Reads of the data, and reads and writes below `trials/KEY/checkpoints` of the study.

    A path is the folder that the driver has opened, and plain names below it.
    """

    def __init__(self) -> None:
        self.opened: set[str] = set()
        self.served_bytes = 0

    def open(self, *folders: str) -> None:
        self.opened.update(folders)

    def served(self) -> int:
        """Bytes of data that were read so far: whether something moves."""
        return self.served_bytes

    def owner(self, study: str) -> bytes | None:
        """What stands in owner.json: by it a worker knows this folder when it sees it."""
        path = Path(self._opened(study)) / "owner.json"
        return path.read_bytes() if path.is_file() else None

    def data_size(self, dataset_path: str, name: str) -> int:
        return self._data(dataset_path, name).stat().st_size

    def read_data(self, dataset_path: str, name: str, offset: int, count: int) -> Any:
        chunk = chunk_of(self._data(dataset_path, name), offset, count)
        self.served_bytes += chunk.size
        return chunk

    def _data(self, dataset_path: str, name: str) -> Path:
        from harness.data.delivered import FILES

        if name not in FILES:
            raise ValueError(f"{name!r} is no file of a data folder")
        return Path(self._opened(dataset_path)) / name

    def _opened(self, folder: str) -> str:
        if folder not in self.opened:
            raise ValueError(f"the driver has not opened {folder!r}")
        return folder

    def folder(self, study: str, parts: tuple[str, ...]) -> Any:
        """The folder of a trial's checkpoints, or one checkpoint in it.

        Raises:
            ValueError: these names lead anywhere else.
        """
        from harness.training.checkpoint.storage import LocalFolder

        place = len(parts) in (3, 4) and (parts[0], parts[2]) == ("trials", "checkpoints")
        if not place or not all(map(PLAIN_NAME.fullmatch, parts)):
            raise ValueError(f"{'/'.join(parts)!r} is no folder of checkpoints")
        return LocalFolder(Path(self._opened(study)).joinpath(*parts))

    def names(self, study: str, parts: tuple[str, ...]) -> list[str]:
        names: list[str] = self.folder(study, parts).names()
        return names

    def size(self, study: str, parts: tuple[str, ...], name: str) -> int | None:
        size: int | None = self.folder(study, parts).size(_plain(name))
        return size

    def sha256(self, study: str, parts: tuple[str, ...], name: str) -> str:
        """Read and hashed here: the file does not travel for it."""
        sha256: str = self.folder(study, parts).sha256(_plain(name))
        return sha256

    def remove(self, study: str, parts: tuple[str, ...], name: str) -> None:
        self.folder(study, parts).remove(_plain(name))

    def read(self, study: str, parts: tuple[str, ...], name: str, offset: int, count: int) -> Any:
        return chunk_of(self.folder(study, parts).path / _plain(name), offset, count)

    def begin(self, study: str, parts: tuple[str, ...]) -> str:
        """Name of a hidden file that chunks can be written into."""
        name: str = self.folder(study, parts).temporary().name
        return name

    def write(
        self, study: str, parts: tuple[str, ...], temporary: str, offset: int, chunk: Any
    ) -> None:
        """Chunks may come in any order."""
        with (self.folder(study, parts).path / _hidden(temporary)).open("rb+") as file:
            file.seek(offset)
            file.write(chunk)

    def finish(self, study: str, parts: tuple[str, ...], temporary: str, name: str) -> None:
        """The hidden file is whole: to the disk, and under its name."""
        folder = self.folder(study, parts)
        folder.put(_plain(name), folder.path / _hidden(temporary))

    def give_up(self, study: str, parts: tuple[str, ...], temporary: str) -> None:
        (self.folder(study, parts).path / _hidden(temporary)).unlink(missing_ok=True)


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
