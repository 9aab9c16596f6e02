"""What a search found and spent, as a table for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.analysis.search.results import SearchResult, VariantSearch
from harness.study.search_space import settings_text


def render_search(search: SearchResult) -> RenderableType:
    """The ledger, the chosen settings and the edge gate of every variant."""
    table = Table("variant", title=f"search ({search.searcher})", title_justify="left")
    for column in ("tried", "stopped", "lost", "tokens", "hours"):
        table.add_column(column, justify="right")
    table.add_column("chosen", overflow="fold")
    for variant in search.variants.values():
        ledger = variant.ledger
        lost = ledger.diverged + ledger.failed + ledger.out_of_memory
        table.add_row(
            variant.variant,
            str(ledger.configurations),
            str(ledger.stopped),
            str(lost),
            f"{ledger.tokens:,}",
            f"{ledger.hours:.2f}",
            _chosen(variant),
        )
    warnings = [
        Text(f"{variant.variant} is not tuned: {edge}", style="yellow")
        for variant in search.variants.values()
        for edge in variant.edges
    ]
    return Group(table, *warnings)


def _chosen(variant: VariantSearch) -> str:
    if variant.chosen is None:
        return "its own settings" if variant.finished else "-"
    return settings_text(variant.chosen.point)
