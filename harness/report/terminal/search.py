"""What a search found and spent, as a table for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.analysis.search.importance import Importance, importances
from harness.analysis.search.results import SearchResult, VariantSearch
from harness.report import numbers
from harness.study.search_space import settings_text


def render_search(search: SearchResult) -> RenderableType:
    """The ledger, the chosen settings, what the settings were worth and the edge gate."""
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
    important = [
        Text(line, style="dim") for item in importances(search) if (line := _important(item))
    ]
    return Group(table, *important, *warnings)


def _important(item: Importance) -> str:
    """`muon: importance of its settings beyond chance: lr 91 % (p = 0.02)`."""
    if item.why_not:
        return f"{item.variant}: importance of its settings unknown: {item.why_not}"
    decided = [
        f"{name} {numbers.percent(share, digits=0)} ({numbers.p_equals(item.p[name])})"
        for name, share in item.shares.items()
        if item.beyond_chance(name)
    ]
    if not decided:
        return f"{item.variant}: no setting's importance is told from chance"
    return f"{item.variant}: importance of its settings beyond chance: {', '.join(decided)}"


def _chosen(variant: VariantSearch) -> str:
    if variant.chosen is None:
        return "its own settings" if variant.finished else "-"
    return settings_text(variant.chosen.point)
