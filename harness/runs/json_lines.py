"""Files that grow by whole lines: JSON records, one a line."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel

BLOCK = 65536


def append(path: Path, record: BaseModel) -> None:
    """Adds one whole line and forces it to the disk; a line cut by a crash is removed first."""
    with path.open("ab+") as file:
        end = _end_of_whole_lines(file.fileno(), file.seek(0, os.SEEK_END))
        file.truncate(end)
        file.write(record.model_dump_json().encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _end_of_whole_lines(descriptor: int, size: int) -> int:
    """Where the last whole line ends: read backwards, however long the file is."""
    while size:
        begin = max(0, size - BLOCK)
        newline = os.pread(descriptor, size - begin, begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        size = begin
    return 0


def read(path: Path) -> list[str]:
    """All whole lines; none if there is no file. A line cut by a crash is left out."""
    if not path.exists():
        return []
    return path.read_text(encoding="utf-8").split("\n")[:-1]
