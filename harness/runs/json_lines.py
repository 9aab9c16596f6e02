"""Files that grow by whole lines: JSON records, one a line. `reading.read_records` reads them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel

from harness.runs.files import named

BLOCK = 65536


def append(path: Path, record: BaseModel) -> None:
    """Adds one whole line and forces it to the disk; a line cut by a crash is removed first.

    Where the line does not fit on the disk, nothing of it stays.

    Raises:
        OSError: with the name of the file.
    """
    rest = record.model_dump_json().encode() + b"\n"
    # Unbuffered: what a full disk refused is not tried again when the file is closed.
    with named(path), path.open("ab+", buffering=0) as file:
        end = _end_of_whole_lines(file.fileno(), file.seek(0, os.SEEK_END))
        file.truncate(end)
        try:
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except BaseException:
            with suppress(OSError):
                file.truncate(end)
            raise


def _end_of_whole_lines(descriptor: int, size: int) -> int:
    """Where the last whole line ends: read backwards, however long the file is."""
    while size:
        begin = max(0, size - BLOCK)
        newline = os.pread(descriptor, size - begin, begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        size = begin
    return 0
