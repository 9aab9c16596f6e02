"""Where documents come from: the standard library, local files, a dataset on the hub.

`open_source` is cheap (it lists, it does not read), because every worker of every trial calls it
to find the cache. `datasets` is imported only when documents are really read.
"""

from __future__ import annotations

import glob
import hashlib
import itertools
import os
import platform
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from harness.data.config import DataConfig
from harness.errors import UserError

# Test suites are stripped from many installations, codec tables are numbers and not text, and
# config-* describes the machine that compiled Python. Without them the corpus is about 11 MB and
# the same on every installation of one Python version.
STDLIB_LEFT_OUT = frozenset(
    {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test", "encodings"}
)
STDLIB_LEFT_OUT_PREFIXES = ("config-", "_sysconfigdata", "pydoc_data")
STDLIB_SUFFIXES = (".py", ".txt", ".rst")

_BUILDERS = {
    ".txt": "text",
    ".md": "text",
    ".rst": "text",
    ".json": "json",
    ".jsonl": "json",
    ".parquet": "parquet",
}


@dataclass(frozen=True, kw_only=True)
class Source:
    """An ordered stream of documents and what identifies it."""

    name: str  # for people
    revision: str  # which version of it, for people and the manifest
    fingerprint: str  # changes when the documents may have changed; part of the cache key
    documents: Callable[[], Iterator[str]]


def open_source(config: DataConfig) -> Source:
    """The source that `config` names, listed but not yet read.

    Raises `UserError` when nothing is found.
    """
    openers = {"stdlib": _open_stdlib, "files": _open_files, "hub": _open_hub}
    return openers[config.source](config)


def list_fingerprint(entries: Iterable[tuple[object, ...]]) -> str:
    """SHA-256 of a listing, for example of (path, size) pairs."""
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(repr(entry).encode())
    return digest.hexdigest()


def file_entries(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """(path, bytes, time of the last change in ns) of every file."""
    return [(str(p), (stat := p.stat()).st_size, stat.st_mtime_ns) for p in paths]


# ---------------------------------------------------------------------------------- stdlib


def _open_stdlib(config: DataConfig) -> Source:
    root = sysconfig.get_path("stdlib")
    entries = sorted(_walk_stdlib(root))
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
        documents=lambda: _read_stdlib(root, [path for path, _ in entries]),
    )


def _walk_stdlib(root: str) -> Iterator[tuple[str, int]]:
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if _is_kept(name)]
        for file in files:
            if file.endswith(STDLIB_SUFFIXES) and _is_kept(file):
                path = os.path.join(folder, file)
                yield path[len(root) + 1 :].replace(os.sep, "/"), os.path.getsize(path)


def _is_kept(name: str) -> bool:
    return name not in STDLIB_LEFT_OUT and not name.startswith(STDLIB_LEFT_OUT_PREFIXES)


def _read_stdlib(root: str, paths: Iterable[str]) -> Iterator[str]:
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


# ----------------------------------------------------------------------------------- files


def _open_files(config: DataConfig) -> Source:
    paths = _matches(config.files)
    unreadable = sorted({p.suffix for p in paths} - set(_BUILDERS))
    if unreadable:
        raise UserError(
            f"files matches {', '.join(s or 'files without an ending' for s in unreadable)}: "
            f"allowed are {', '.join(_BUILDERS)}"
        )
    fingerprint = list_fingerprint(file_entries(paths))
    return Source(
        name=f"{len(paths)} file{'s' if len(paths) > 1 else ''}: {', '.join(config.files)}",
        revision="see documents_sha256",
        fingerprint=fingerprint,
        documents=lambda: _read_files(paths, config),
    )


def _matches(patterns: Iterable[str]) -> list[Path]:
    paths: set[Path] = set()
    for pattern in patterns:
        found = glob.glob(os.path.expanduser(pattern), recursive=True)
        matched = [Path(f).absolute() for f in found if os.path.isfile(f)]
        if not matched:
            raise UserError(
                f"files: {pattern!r} matches no file (looked from {Path.cwd()}): check the path"
            )
        paths.update(matched)
    return sorted(paths)


def _read_files(paths: Iterable[Path], config: DataConfig) -> Iterator[str]:
    from datasets import load_dataset

    for builder, group in itertools.groupby(paths, key=lambda p: _BUILDERS[p.suffix]):
        files = [glob.escape(str(path)) for path in group]
        load = partial(load_dataset, builder, data_files=files, split="train", streaming=True)
        column = config.text_column
        if builder == "text":
            load, column = partial(load, sample_by=config.sample_by), "text"
        where = files[0] if len(files) == 1 else f"{files[0]} ... {files[-1]}"
        advice = "check that the files are complete and of the kind that their name says"
        yield from _texts(_rows(load, where=where, advice=advice), column=column, where=where)


# ------------------------------------------------------------------------------------- hub


def _open_hub(config: DataConfig) -> Source:
    name = "/".join(part for part in (config.dataset, config.subset) if part)
    identity: list[tuple[object, ...]] = [(name, config.split, config.revision)]
    if config.dataset and Path(config.dataset).is_dir():  # a clone of the dataset's repository
        files = sorted(p for p in Path(config.dataset).rglob("*") if p.is_file())
        identity += file_entries(files)
    return Source(
        name=f"{name} [{config.split}]",
        revision=str(config.revision),
        fingerprint=list_fingerprint(identity),
        documents=lambda: _read_hub(config),
    )


def _read_hub(config: DataConfig) -> Iterator[str]:
    def load() -> Iterable[dict[str, Any]]:
        from datasets import load_dataset

        rows: Iterable[dict[str, Any]] = load_dataset(
            config.dataset,
            config.subset,
            split=config.split,
            revision=config.revision,
            streaming=True,
        )
        return rows

    where = f"{config.dataset} at revision {config.revision}"
    advice = (
        "check the name, the network and HF_HUB_OFFLINE; without a network use "
        "source = 'stdlib' or source = 'files'"
    )
    yield from _texts(
        _rows(load, where=where, advice=advice), column=config.text_column, where=where
    )


# ----------------------------------------------------------------------------------- shared


def _rows(
    load: Callable[[], Iterable[dict[str, Any]]], *, where: str, advice: str
) -> Iterator[dict[str, Any]]:
    """Rows of a streamed dataset; whatever goes wrong while reading is one clear error.

    Broad on purpose: depending on the failing layer `datasets` raises its own errors, those of
    the hub client, of the HTTP client, of pyarrow or plain `OSError`s. The consumer's own errors
    do not pass through here.
    """
    try:
        yield from load()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"cannot read {where} ({reason}): {advice}") from error


def _texts(rows: Iterable[dict[str, Any]], *, column: str, where: str) -> Iterator[str]:
    for number, row in enumerate(rows):
        if column not in row:
            raise UserError(
                f"text_column {column!r} is not in {where}: it has {', '.join(sorted(row))}"
            )
        text = row[column]
        if text is not None and not isinstance(text, str):
            raise UserError(
                f"text_column {column!r} of row {number} in {where} holds "
                f"{type(text).__name__}, not text: choose another column"
            )
        yield text or ""
