"""Files that grow are read once, line by line, also when they begin anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.tracking.trial_files import GrowingFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reports.jsonl"


def test_each_line_is_read_once_and_only_when_it_is_whole(path: Path) -> None:
    growing = GrowingFile(path)
    assert growing.read() is None
    path.write_bytes(b"one\ntw")
    assert growing.read() == (False, [b"one"])
    assert growing.read() is None
    path.write_bytes(b"one\ntwo\nthree\n")
    assert growing.read() == (False, [b"two", b"three"])
    path.touch()
    assert growing.read() == (False, [])


@pytest.mark.parametrize("now", [b"ONE\nTWO\n", b"ONE\n", b"other\nlines\nmany\n", b"on"])
def test_a_file_that_began_anew_is_read_from_its_beginning(path: Path, now: bytes) -> None:
    growing = GrowingFile(path)
    path.write_bytes(b"one\ntwo\n")
    growing.read()
    path.unlink()
    path.write_bytes(now)
    assert growing.read() == (True, now.split(b"\n")[:-1])


def test_a_file_that_is_gone_began_anew(path: Path) -> None:
    growing = GrowingFile(path)
    path.write_bytes(b"one\n")
    growing.read()
    path.unlink()
    assert growing.read() == (True, [])
    path.write_bytes(b"one\n")
    assert growing.read() == (False, [b"one"])
