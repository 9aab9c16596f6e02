"""The keys of a study file for the terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from harness.study import schema, suite_schema


def render_schema(section: str | None = None, *, suite: bool = False) -> Table:
    table = Table("key", "type", "default", "meaning", box=None, pad_edge=False)
    for key, kind, default, meaning in (suite_schema if suite else schema).rows(section):
        table.add_row(Text(key, style="bold"), Text(kind), Text(default), Text(meaning))
    return table
