"""Rows of text in a terminal: a table where it fits, paragraphs where it does not."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

NAME_WIDTH = 12
"""Names fold down to this; if the numbers leave less, there is no table."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Rows of text that begin with a name: a table where it fits, else a paragraph a row.

    Names and words fold. A number is never cut, however many digits it has, and nothing in a cell
    is markup.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    last_is_words: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = self._widths(options.max_width)
        yield self._paragraphs() if widths is None else self._table(widths)

    def _widths(self, available: int) -> list[int] | None:
        """Of all columns; None where the numbers leave too little for the names."""
        columns = list(zip(self.headings, *self.rows, strict=True))
        widths = [max(map(cell_len, column)) for column in columns]
        # One space on either side of a column, and a blank line of the box between two.
        left = available - sum(widths[1:]) - 3 * (len(widths) - 1) - 2
        if self.last_is_words and left < widths[0]:
            longest = max(cell_len(word) for cell in columns[-1] for word in cell.split())
            spared = min(widths[-1] - longest, widths[0] - left)
            widths[-1], left = widths[-1] - spared, left + spared
        if left < min(widths[0], NAME_WIDTH):
            return None
        return [min(widths[0], left), *widths[1:]]

    def _table(self, widths: Sequence[int]) -> Table:
        table = Table(
            title=self.title, title_justify="left", box=box.SIMPLE, padding=(0, 1), pad_edge=False
        )
        for index, (heading, width) in enumerate(zip(self.headings, widths, strict=True)):
            words = index == 0 or (self.last_is_words and index == len(widths) - 1)
            table.add_column(
                heading, justify="left" if words else "right", width=width, overflow="fold"
            )
        for row in self.rows:
            table.add_row(*map(folded, row))
        return table

    def _paragraphs(self) -> Group:
        parts: list[RenderableType] = [Text(f"{self.title}\n", style="italic")]
        for name, *cells in self.rows:
            named = zip(self.headings[1:], cells, strict=True)
            body = "; ".join(f"{heading} {cell}" for heading, cell in named)
            parts += [folded(name), Padding(folded(body), (0, 0, 0, 2))]
        return Group(*parts, Text())


def folded(text: str) -> Text:
    """Text from outside: never markup, and what is too long for a line goes on in the next."""
    return Text(text, overflow="fold")
