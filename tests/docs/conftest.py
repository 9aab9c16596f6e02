"""What stands in the fenced blocks of the pages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class FencedBlock:
    """A fenced block of a page, with the text since the block before it."""

    page: str
    line: int
    language: str
    before: str
    text: str


def fenced_blocks(page: Path) -> Iterator[FencedBlock]:
    """Every fenced block of a Markdown file, in order."""
    before: list[str] = []
    block: list[str] | None = None
    language, start = "", 0
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.startswith("```"):
            (before if block is None else block).append(line)
        elif block is None:
            block, language, start = [], line.removeprefix("```").strip(), number
        else:
            name = str(page.relative_to(ROOT))
            text = "\n".join(block) + "\n"
            yield FencedBlock(name, start, language, "\n".join(before), text)
            before, block = [], None
    assert block is None, f"{page}: a fence that is not closed"


@pytest.fixture(scope="session")
def blocks_of() -> Callable[[str], list[FencedBlock]]:
    """The fenced blocks of a page, named by its path in the repository."""
    return lambda page: list(fenced_blocks(ROOT / page))


@pytest.fixture(scope="session")
def named_file() -> Callable[[list[FencedBlock], str], str]:
    """The block that the text before it calls by the name of a file."""

    def find(blocks: list[FencedBlock], name: str) -> str:
        (text,) = [b.text for b in blocks if re.search(rf"`{re.escape(name)}`[^`]*$", b.before)]
        return text

    return find
