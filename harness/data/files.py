"""Local files: text, JSON and Parquet."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from harness.data.config import DataConfig
from harness.data.sources import Source, file_entries, list_fingerprint
from harness.data.streaming import read_rows, texts
from harness.errors import UserError

_BUILDERS = {
    ".txt": "text",
    ".md": "text",
    ".rst": "text",
    ".json": "json",
    ".jsonl": "json",
    ".parquet": "parquet",
}


def open_source(config: DataConfig) -> Source:
    """The files that match `config.files`, in the order of their names."""
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
        documents=lambda: _read(paths, config),
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


def _read(paths: Iterable[Path], config: DataConfig) -> Iterator[str]:
    from datasets import load_dataset

    for builder, group in itertools.groupby(paths, key=lambda p: _BUILDERS[p.suffix]):
        files = [glob.escape(str(path)) for path in group]
        load = partial(load_dataset, builder, data_files=files, split="train", streaming=True)
        column = config.text_column
        if builder == "text":
            load, column = partial(load, sample_by=config.sample_by), "text"
        where = files[0] if len(files) == 1 else f"{files[0]} ... {files[-1]}"
        advice = "check that the files are complete and of the kind that their name says"
        yield from texts(read_rows(load, where=where, advice=advice), column=column, where=where)
