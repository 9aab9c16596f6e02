"""The report as Markdown beside its figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from harness.report.elements import (
    Code,
    Details,
    Element,
    Facts,
    FigureImage,
    Link,
    Paragraph,
    Section,
    Table,
    VerdictCard,
)
from harness.report.numbers import real_minus
from harness.report.sections import Material


def write_markdown(material: Material) -> str:
    return render_markdown(material.study.name, material.sections)


def render_markdown(name: str, sections: Iterable[Section]) -> str:
    lines = [f"# {_plain(name)}", ""]
    for section in sections:
        lines += [f"## {section.title}", "", *_write(section)]
    return "\n".join(lines).rstrip() + "\n"


def _write(section: Section) -> Iterator[str]:
    for block in section.blocks:
        yield from _write_block(block)
        yield ""


def _write_block(block: Element) -> Iterator[str]:
    match block:
        case Table():
            yield from _write_table(block)
        case Paragraph():
            text = _plain(real_minus(block.text))
            yield f"**{text}**" if block.tone in ("warning", "summary") else text
        case Facts():
            yield from (f"- {_plain(label)}: {_plain(value)}" for label, value in block.items)
        case VerdictCard():
            yield f"- **{block.word}**: {_plain(block.sentence)}"
        case FigureImage():
            yield f"![{block.title}]({block.name}.png)"
            yield ""
            yield f"*{block.title}.* {_plain(real_minus(block.caption))}"
        case Code():
            yield from (f"```{block.language}", block.text.rstrip("\n"), "```")
        case Link():
            yield f"[{_plain(block.text)}]({block.address})"
        case Details():
            yield from ("<details>", f"<summary>{_plain(block.title)}</summary>", "")
            for inner in block.blocks:
                yield from _write_block(inner)
                yield ""
            yield "</details>"


def _write_table(table: Table) -> Iterator[str]:
    yield f"### {_plain(table.title)}"
    yield ""
    yield _row([column.title for column in table.columns])
    yield _row(
        [":---" if column.align == "left" else "---:" for column in table.columns], plain=False
    )
    for index, row in enumerate(table.rows):
        strong = index in table.strong_rows
        yield _row(
            [f"**{cell}**" if strong and column == 1 else cell for column, cell in enumerate(row)]
        )
    if table.note:
        yield ""
        yield _plain(real_minus(table.note))


def _row(cells: Sequence[str], *, plain: bool = True) -> str:
    return "| " + " | ".join(_plain(cell) if plain else cell for cell in cells) + " |"


_ESCAPES = str.maketrans({"|": r"\|", "<": "&lt;", ">": "&gt;", "\n": " ", "\r": " "})


def _plain(text: str) -> str:
    """Text from a file cannot end a table cell or open a tag."""
    return text.translate(_ESCAPES)
