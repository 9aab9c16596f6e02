"""The page about training logs: its commands run on its logs and print what it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main

PAGE = "docs/how-to/statistics-of-your-own-logs.md"
PUBLISHED = Path(__file__).parents[2] / "docs/how-to/fp8.csv"


def words_of(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture
def optbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(words: list[str]) -> str:
        monkeypatch.setattr("sys.argv", words)
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        assert not end.value.code, captured.err
        return words_of(captured.out)

    return call


def test_the_commands_print_what_the_page_shows(
    blocks_of: Any, optbench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = blocks_of(PAGE)
    (script,) = [block.text for block in blocks if block.language == "python"]
    exec(script, {})
    shown = [words_of(block.text) for block in blocks if block.language == "text"]
    commands = [
        shlex.split(line)
        for block in blocks
        if block.language == "sh"
        for line in re.sub(r"\\\n\s*", "", block.text).splitlines()
    ]
    (foreign,) = [words for words in commands if "modded-nanogpt" in words]
    printed = [optbench(words) for words in commands if words is not foreign]
    verdict, way, public = shown
    assert all(verdict in text for text in printed)
    assert way in printed[0]
    assert "undetermined" not in printed[0]
    # Of the public logs only what was read from them is here: their table.
    start = foreign.index("--baseline")
    assert public in optbench(["optbench", "compare", str(PUBLISHED), *foreign[start:-2]])
