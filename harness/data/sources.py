"""Where documents come from.

A source is a module of `registry.SOURCES` with `open_source(config) -> Source`. Opening is cheap
(it lists, it does not read), because every worker of every trial opens the source to find the
cache. `datasets` and the like are imported only when documents are really read.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from harness.data.config import DataConfig
from harness.data.registry import SOURCES
from harness.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Source:
    """An ordered stream of documents and what identifies it."""

    name: str  # for people
    revision: str  # which version of it, for people and the manifest
    fingerprint: str  # changes when the documents may have changed; part of the cache key
    documents: Callable[[], Iterator[str]]


def open_source(config: DataConfig) -> Source:
    """The source that `config` names, listed but not yet read.

    Raises `UserError` when nothing is found, or `options` do not suit the source.
    """
    module = importlib.import_module(SOURCES[config.source])
    try:
        source: Source = module.open_source(config)
    except ValidationError as error:
        mistakes = [
            f"data.options.{'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})"
            for e in error.errors()
        ]
        raise UserError("; ".join(mistakes)) from None
    return source


def list_fingerprint(entries: Iterable[tuple[object, ...]]) -> str:
    """SHA-256 of a listing, for example of (path, size) pairs."""
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(repr(entry).encode())
    return digest.hexdigest()


def file_entries(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """(path, bytes, time of the last change in ns) of every file."""
    return [(str(p), (stat := p.stat()).st_size, stat.st_mtime_ns) for p in paths]
