"""A calibration for a terminal of 80 columns."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.analysis.calibration.calibrate import Calibration
from harness.report.tables.calibration import adding_rows, columns, fixed_rows


def render_calibration(calibration: Calibration) -> RenderableType:
    """For the terminal; `!` marks a rate outside its bounds."""
    fixed = _table("A fixed number of seeds")
    fixed.add_column("check", overflow="fold")
    fixed.add_column("design, K", no_wrap=True)
    for n in columns():
        fixed.add_column(f"n = {n}", justify="right", no_wrap=True)
    fixed.add_column("bounds", overflow="fold")
    for row in fixed_rows(calibration.cells):
        fixed.add_row(row.check, f"{row.design}, {row.comparisons}", *row.rates, row.bounds)
    adding = _table("Adding seeds: false positives")
    for heading in ("rule", "design", "looks at n", "rate", "bounds"):
        adding.add_column(heading)
    for cells in adding_rows(calibration.cells):
        adding.add_row(*cells)
    good = calibration.passed
    verdict = "Every promise holds." if good else "Rates marked ! are outside their bounds."
    return Group(
        Text(f"{calibration.studies} studies a cell; noise: {calibration.noise}"),
        fixed,
        adding,
        Text(verdict, style="bold green" if good else "bold red"),
    )


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE, padding=(0, 1), pad_edge=False)
