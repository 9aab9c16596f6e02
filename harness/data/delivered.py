"""Data by its content: what this host has of it, and what is brought to it once.

A worker names its tokens by their SHA-256 (`DataManifest.sha256`), not by a path: the driver's
folder may not be on the worker's host, or hold other tokens there.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from harness.data.cache import CACHE_VARIABLE, default_cache_dir
from harness.data.dataset import (
    MANIFEST_FILE,
    TOKENIZER_FILE,
    TRAIN_FILE,
    VALIDATION_FILE,
    TokenDataset,
    files_sha256,
    open_dataset,
)
from harness.data.manifest import DataManifest
from harness.data.new_folder import leftovers, new_folder
from harness.errors import UserError

logger = logging.getLogger(__name__)

FILES = (MANIFEST_FILE, TOKENIZER_FILE, TRAIN_FILE, VALIDATION_FILE)

Chunks = Callable[[str], Iterable[Any]]
"""The bytes of a file of the data folder, by its name: buffers, in order."""

Beat = Callable[[], None]
"""Called whenever something moves: who works on gigabytes is not taken for one that hangs."""


class Undelivered(OSError):
    """The data is not on this host and cannot be brought there: no fault of the training."""


def obtain(
    sha256: str,
    *,
    path: Path | None = None,
    chunks: Chunks | None = None,
    cache_dir: Path | None = None,
    beat: Beat = lambda: None,
) -> TokenDataset:
    """The data with this hash on this host: at `path`, or in the host's cache, or brought there.

    Every file is read and hashed once in a process, and again only when it has changed.

    Args:
        sha256: `DataManifest.sha256`.
        path: where it is on the driver's host.
        chunks: where it is brought from; None: from nowhere.
        cache_dir: default `default_cache_dir()`, this host's.

    Raises:
        Undelivered: it is not here, and cannot be brought.
    """
    for folder in _candidates(sha256, path, cache_dir):
        if (found := _verified(folder, sha256, beat)) is not None:
            return found
    if chunks is None:
        raise Undelivered(
            f"the data {sha256[:12]} is not on {platform.node()}, neither at {path} nor in "
            f"{delivered_folder(sha256, cache_dir).parent}: {_fault_of(path, sha256)}"
        )
    return _deliver(sha256, chunks, cache_dir, beat)


def delivered_folder(sha256: str, cache_dir: Path | None = None) -> Path:
    """Where the data is brought to: its name says what is in it, not how it was made."""
    return (cache_dir or default_cache_dir()) / "data" / f"sha256-{sha256[:20]}"


def _candidates(sha256: str, path: Path | None, cache_dir: Path | None) -> Iterator[Path]:
    if path is not None:
        yield path
    brought = delivered_folder(sha256, cache_dir)
    yield brought
    for folder in sorted(brought.parent.glob("*-*")):  # what this host itself has built
        if folder not in (path, brought) and not folder.name.startswith("."):
            yield folder


_hashed: set[tuple[Any, ...]] = set()
"""What this process has found whole: the hash of the data, and each file as it was then."""


def _verified(folder: Path, sha256: str, beat: Beat) -> TokenDataset | None:
    """None where there is no such folder, other data, or a damaged copy, which the log tells."""
    if not os.path.exists(folder / MANIFEST_FILE):
        return None
    try:
        dataset = open_dataset(folder)
        if dataset.manifest.sha256 != sha256:
            return None
        identity = _identity(folder, sha256)
        if identity not in _hashed:
            dataset.verify(beat)
            _hashed.add(identity)
    except (UserError, OSError) as error:
        logger.warning("%s", error)
        return None
    return dataset


def _identity(folder: Path, sha256: str) -> tuple[Any, ...]:
    stats = [(folder / name).stat() for name in FILES]
    return (sha256, *((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats))


def _fault_of(path: Path | None, sha256: str) -> str:
    if path is None:
        return "nobody brings it"
    try:
        dataset = open_dataset(path)
        if dataset.manifest.sha256 == sha256:
            dataset.verify()
    except UserError as error:
        return str(error)
    return f"{path} holds other tokens ({dataset.manifest.sha256[:12]})"


def _deliver(sha256: str, chunks: Chunks, cache_dir: Path | None, beat: Beat) -> TokenDataset:
    """Brings it into this host's cache, or waits until another process has."""
    final = delivered_folder(sha256, cache_dir)
    try:
        with new_folder(
            final,
            is_there=lambda: _verified(final, sha256, beat) is not None,
            waiting=_Watch(final, beat),
        ) as temporary:
            if temporary is not None:
                _receive(temporary, sha256, chunks, beat)
        found = open_dataset(final)
        _hashed.add(_identity(final, sha256))
    except (OSError, UserError) as error:
        raise Undelivered(
            f"the data {sha256[:12]} could not be brought to {platform.node()}, into "
            f"{final.parent} ({error}): make room or give the right to write there, or set "
            f"{CACHE_VARIABLE} on that host to another folder"
        ) from error
    return found


class _Watch:
    """Beats when the folder that another process makes has grown since the last look."""

    def __init__(self, final: Path, beat: Beat) -> None:
        self.final, self.beat, self.size = final, beat, -1

    def __call__(self) -> None:
        with suppress(OSError):  # a file is gone again
            files = [path for folder in leftovers(self.final) for path in folder.iterdir()]
            size = sum(path.stat().st_size for path in files)
            if size != self.size:
                self.size = size
                self.beat()


def _receive(folder: Path, sha256: str, chunks: Chunks, beat: Beat) -> None:
    """Writes every file, none larger in memory than a chunk, and compares what came."""
    content = b"".join(bytes(chunk) for chunk in chunks(MANIFEST_FILE))
    try:
        manifest = DataManifest.model_validate_json(content)
    except ValidationError:
        raise OSError(f"the driver's {MANIFEST_FILE} is of another version or broken") from None
    if manifest.sha256 != sha256:
        raise OSError(f"the driver's folder holds other tokens ({manifest.sha256[:12]})")
    _require_room(folder, manifest)
    (folder / MANIFEST_FILE).write_bytes(content)
    for name, expected in files_sha256(manifest).items():
        hasher = hashlib.sha256()
        with (folder / name).open("wb") as file:
            for chunk in chunks(name):
                file.write(chunk)
                hasher.update(chunk)
                beat()
        if hasher.hexdigest() != expected:
            raise OSError(f"{name} came with SHA-256 {hasher.hexdigest()}, not {expected}")


def _require_room(folder: Path, manifest: DataManifest) -> None:
    tokens = manifest.train.tokens + manifest.validation.tokens
    needed, free = tokens * np.dtype(manifest.dtype).itemsize, shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(f"it takes {needed / 1e9:.2f} GB and {free / 1e9:.2f} GB are free")
