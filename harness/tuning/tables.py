"""What a search found and spent, as a table for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.results import StudyFolder
from harness.tuning.labels import settings_text
from harness.tuning.records import VariantTuning
from harness.tuning.summary import load


def render_tuning(folder: StudyFolder) -> RenderableType:
    """The ledger, the chosen settings and the edge gate of every variant."""
    tuning = load(folder)
    assert tuning is not None, "only a study with [tuning] has a search to show"
    table = Table("variant", title=f"search ({tuning.searcher})", title_justify="left")
    for column in ("tried", "stopped", "lost", "tokens", "hours"):
        table.add_column(column, justify="right")
    table.add_column("chosen", overflow="fold")
    for variant in tuning.variants.values():
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
        for variant in tuning.variants.values()
        for edge in variant.edges
    ]
    return Group(table, *warnings)


def _chosen(variant: VariantTuning) -> str:
    if variant.chosen is None:
        return "its own settings" if variant.finished else "-"
    return settings_text(variant.chosen.point)
