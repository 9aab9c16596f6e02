"""A folder of checkpoints: on this machine's file system, or on any that pyarrow knows.

A local file appears whole or not at all (temporary name, fsync, rename). So does an object of an
object store; a file system that is neither may show half a file, and then its SHA-256 is not that
of the manifest, which is written last.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from harness.errors import UserError

CHUNK_BYTES = 8 * 2**20
PROBE_FILE = "can-be-written"


class Folder(Protocol):
    """What a checkpoint needs of a place. Names are those of direct children."""

    where: str

    def child(self, name: str) -> Folder: ...

    def names(self) -> list[str]:
        """Of what is there, hidden files left out; none where there is no folder."""
        ...

    def size(self, name: str) -> int | None:
        """Bytes of a file; None where there is none."""
        ...

    def temporary(self) -> Path:
        """A fresh local file, to be written and then `put`, or unlinked."""
        ...

    def put(self, name: str, written: Path) -> None:
        """A local file, made by `temporary`, becomes the file `name`."""
        ...

    def stream(self, name: str) -> BinaryIO: ...

    def sha256(self, name: str) -> str:
        """Of a file, in hexadecimal."""
        ...

    def local(self, name: str, scratch: Path) -> Path:
        """The file on this machine: itself, or a copy in the folder `scratch`."""
        ...

    def remove(self, name: str) -> None:
        """A file or a folder, if it is there."""
        ...


def open_folder(where: str | Path | Folder) -> Folder:
    """The folder of a path, or of a URI such as `s3://bucket/checkpoints` or `file:///checkpoints`.

    One that is open already stays what it is.

    Raises:
        UserError: pyarrow does not understand the URI.
        OSError: the file system cannot be reached.
    """
    if not isinstance(where, str | Path):
        return where
    if "://" not in str(where):
        return LocalFolder(Path(where))
    from pyarrow import fs  # only where it is needed: it takes time

    try:
        filesystem, path = fs.FileSystem.from_uri(str(where))
    except (ValueError, NotImplementedError) as error:
        raise UserError(
            f"checkpoints cannot be kept at {where}: {str(error).rstrip('.')}: name a path, or a "
            "URI such as s3://bucket/runs"
        ) from None
    if isinstance(filesystem, fs.LocalFileSystem):
        return LocalFolder(Path(path))
    return RemoteFolder(filesystem, path, where=str(where))


def check_storage(where: str) -> None:
    """Writes a small file there and removes it.

    Raises:
        UserError: that cannot be done, or not from here.
    """
    try:
        folder = open_folder(where)
        written = folder.temporary()
        folder.put(PROBE_FILE, written)
        folder.remove(PROBE_FILE)
    except OSError as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"checkpoints cannot be kept at {where}: {reason}: name a folder or a URI that every "
            "node can write to"
        ) from None


class LocalFolder:
    """On a file system of this machine, a shared one included."""

    def __init__(self, path: Path) -> None:
        self.path, self.where = path, str(path)

    def child(self, name: str) -> LocalFolder:
        return LocalFolder(self.path / name)

    def names(self) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self.path) if not name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def size(self, name: str) -> int | None:
        try:
            return (self.path / name).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def temporary(self) -> Path:
        self.path.mkdir(parents=True, exist_ok=True)
        handle, path = tempfile.mkstemp(dir=self.path, prefix=".", suffix=".writing")
        os.close(handle)
        return Path(path)

    def put(self, name: str, written: Path) -> None:
        with written.open("rb+") as file:
            os.fsync(file.fileno())
        os.chmod(written, 0o644)
        os.replace(written, self.path / name)
        folder = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def stream(self, name: str) -> BinaryIO:
        return (self.path / name).open("rb")

    def sha256(self, name: str) -> str:
        return sha256_of(self.stream(name))

    def local(self, name: str, scratch: Path) -> Path:
        return self.path / name

    def remove(self, name: str) -> None:
        path = self.path / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


class RemoteFolder:
    """On a file system of pyarrow. Files are written here first, and uploaded in chunks."""

    def __init__(self, filesystem: Any, path: str, *, where: str | None = None) -> None:
        self.filesystem, self.path = filesystem, path.rstrip("/")
        self.where = where.rstrip("/") if where is not None else self.path

    def child(self, name: str) -> RemoteFolder:
        return RemoteFolder(self.filesystem, f"{self.path}/{name}", where=f"{self.where}/{name}")

    def names(self) -> list[str]:
        from pyarrow import fs

        selector = fs.FileSelector(self.path, allow_not_found=True)
        return sorted(info.base_name for info in self.filesystem.get_file_info(selector))

    def size(self, name: str) -> int | None:
        size: int | None = self.filesystem.get_file_info(f"{self.path}/{name}").size
        return size

    def temporary(self) -> Path:
        handle, path = tempfile.mkstemp(prefix="optbench-checkpoint-")
        os.close(handle)
        return Path(path)

    def put(self, name: str, written: Path) -> None:
        self.filesystem.create_dir(self.path, recursive=True)
        with (
            written.open("rb") as source,
            self.filesystem.open_output_stream(f"{self.path}/{name}") as target,
        ):
            shutil.copyfileobj(source, target, CHUNK_BYTES)
        written.unlink()

    def stream(self, name: str) -> BinaryIO:
        file: BinaryIO = self.filesystem.open_input_stream(f"{self.path}/{name}")
        return file

    def sha256(self, name: str) -> str:
        return sha256_of(self.stream(name))

    def local(self, name: str, scratch: Path) -> Path:
        with self.stream(name) as source, (scratch / name).open("wb") as target:
            shutil.copyfileobj(source, target, CHUNK_BYTES)
        return scratch / name

    def remove(self, name: str) -> None:
        from pyarrow import fs

        path = f"{self.path}/{name}"
        with suppress(FileNotFoundError):
            if self.filesystem.get_file_info(path).type == fs.FileType.Directory:
                self.filesystem.delete_dir(path)
            elif self.filesystem.get_file_info(path).type == fs.FileType.File:
                self.filesystem.delete_file(path)


def sha256_of(stream: BinaryIO) -> str:
    hasher = hashlib.sha256()
    with stream as file:
        while chunk := file.read(CHUNK_BYTES):
            hasher.update(chunk)
    return hasher.hexdigest()
