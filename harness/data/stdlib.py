"""The Python standard library's own text: on every machine, without a network."""

from __future__ import annotations

import os
import platform
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.data.config import DataConfig
from harness.data.sources import Source, list_fingerprint
from harness.errors import UserError

# Test suites are stripped from many installations, codec tables are numbers and not text, and
# config-* describes the machine that compiled Python. Without them the corpus is about 11 MB and
# the same on every installation of one Python version.
STDLIB_LEFT_OUT = frozenset(
    {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test", "encodings"}
)
STDLIB_LEFT_OUT_PREFIXES = ("config-", "_sysconfigdata", "pydoc_data")
STDLIB_SUFFIXES = (".py", ".txt", ".rst")


def open_source(config: DataConfig) -> Source:
    """Every module and the chapters of the language reference, one document each."""
    root = sysconfig.get_path("stdlib")
    entries = sorted(_walk(root))
    if not entries:
        raise UserError(
            f"no Python sources in the standard library at {root}: this Python was installed "
            "without them. Use source = 'files' instead"
        )
    version = f"{platform.python_implementation()} {platform.python_version()}"
    return Source(
        name="Python standard library",
        revision=version,
        fingerprint=list_fingerprint([(version,), *entries]),
        documents=lambda: _read(root, [path for path, _ in entries]),
    )


def _walk(root: str) -> Iterator[tuple[str, int]]:
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if _is_kept(name)]
        for file in files:
            if file.endswith(STDLIB_SUFFIXES) and _is_kept(file):
                path = os.path.join(folder, file)
                yield path[len(root) + 1 :].replace(os.sep, "/"), os.path.getsize(path)


def _is_kept(name: str) -> bool:
    return name not in STDLIB_LEFT_OUT and not name.startswith(STDLIB_LEFT_OUT_PREFIXES)


def _read(root: str, paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        # A few old files declare another encoding; what cannot be decoded is shown, not dropped.
        yield Path(root, path).read_bytes().decode("utf-8", errors="replace")
    yield from _documentation_topics()


def _documentation_topics() -> Iterator[str]:
    """The chapters of the language reference that `help()` shows, one document a topic."""
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some distributions package it apart
        return
    for _, text in sorted(topics.items()):
        yield text
