"""What a report consists of. The page, the Markdown and the terminal write the same blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from harness.analysis.stats.verdict import Verdict

Align = Literal["left", "right"]
BROAD_PIXELS = 640
VerdictWord = Verdict | Literal["below", "not shown"]


@dataclass(frozen=True, kw_only=True)
class Column:
    title: str
    align: Align = "right"
    wide: bool = False
    whole: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """Cells are text, formatted by the function that made the table.

    `tones` colours cells by (row, column): `better`, `worse`, `equivalent` or `lost`. The text says
    it too, because colour alone does not reach everyone.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    strong_rows: frozenset[int] = frozenset()
    tones: Mapping[tuple[int, int], str] = field(default_factory=dict)
    kind: Literal["table"] = field(default="table", init=False)

    def __post_init__(self) -> None:
        widths = {len(row) for row in self.rows} - {len(self.columns)}
        assert not widths, (
            f"table {self.title!r}: rows of {widths} cells, {len(self.columns)} columns"
        )


@dataclass(frozen=True, kw_only=True)
class Paragraph:
    text: str
    tone: Literal["plain", "note", "warning", "question", "summary"] = "plain"
    kind: Literal["paragraph"] = field(default="paragraph", init=False)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Labelled values, shown side by side."""

    items: tuple[tuple[str, str], ...]
    kind: Literal["facts"] = field(default="facts", init=False)


@dataclass(frozen=True, kw_only=True)
class VerdictCard:
    """One comparison in words."""

    word: VerdictWord
    variant: str
    sentence: str
    kind: Literal["verdict"] = field(default="verdict", init=False)


@dataclass(frozen=True, kw_only=True)
class FigureImage:
    """A drawn figure: `<name>.png` beside the page, and its SVG inside the page."""

    name: str
    title: str
    caption: str
    png: bytes
    svg: bytes
    width: int
    kind: Literal["figure"] = field(default="figure", init=False)

    @property
    def broad(self) -> bool:
        """Whether its text would be too small to read in the width of a telephone."""
        return self.width > BROAD_PIXELS


@dataclass(frozen=True, kw_only=True)
class Code:
    """Text to copy, kept as it is."""

    text: str
    language: str
    kind: Literal["code"] = field(default="code", init=False)


@dataclass(frozen=True, kw_only=True)
class Link:
    """To another page of ours; a relative address, so that folders can be moved together."""

    text: str
    address: str
    kind: Literal["link"] = field(default="link", init=False)


@dataclass(frozen=True, kw_only=True)
class Details:
    """Folded away until asked for."""

    title: str
    blocks: tuple[Element, ...]
    kind: Literal["details"] = field(default="details", init=False)


Element = Table | Paragraph | Facts | VerdictCard | FigureImage | Code | Link | Details


@dataclass(frozen=True, kw_only=True)
class Section:
    anchor: str
    title: str
    blocks: tuple[Element, ...]


def left(*titles: str) -> list[Column]:
    return [Column(title=title, align="left") for title in titles]


def wide(title: str) -> Column:
    """A column of sentences, which is not squeezed."""
    return Column(title=title, align="left", wide=True)


def whole(title: str) -> Column:
    """A column of a few words each, which are not broken."""
    return Column(title=title, align="left", whole=True)


def right(*titles: str) -> list[Column]:
    return [Column(title=title) for title in titles]


def table(
    title: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    note: str = "",
    strong_rows: frozenset[int] = frozenset(),
    tones: Mapping[tuple[int, int], str] | None = None,
) -> Table:
    return Table(
        title=title,
        columns=tuple(columns),
        rows=tuple(tuple(row) for row in rows),
        note=note,
        strong_rows=strong_rows,
        tones=tones or {},
    )
