"""A calibration as tables: the rows, and the Markdown of the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.calibration.calibrate import SEEDS, Calibration
from harness.analysis.calibration.cells import Cell


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """One line: one check at each number of seeds in `SEEDS`, empty where it was not made."""

    check: str
    design: str
    comparisons: int
    rates: tuple[str, ...]
    bounds: str


def fixed_rows(cells: Sequence[Cell]) -> list[TableRow]:
    """The checks of studies with a fixed number of seeds."""
    lines: dict[tuple[str, str, int], dict[str, Cell]] = {}
    for cell in cells:
        if cell.seeds in columns():
            line = lines.setdefault((cell.check, cell.design, cell.comparisons), {})
            line[cell.seeds] = cell
    return [
        TableRow(
            check=check,
            design=design,
            comparisons=comparisons,
            rates=tuple(_rate(line[n]) if n in line else "" for n in columns()),
            bounds=_bounds(next(iter(line.values()))),
        )
        for (check, design, comparisons), line in lines.items()
    ]


def adding_rows(cells: Sequence[Cell]) -> list[tuple[str, str, str, str, str]]:
    """Check, design, seeds, rate and bounds of the studies that add seeds."""
    return [
        (cell.check, cell.design, cell.seeds, _rate(cell), _bounds(cell))
        for cell in cells
        if cell.seeds not in columns()
    ]


def columns() -> list[str]:
    return [str(seeds) for seeds in SEEDS]


def _rate(cell: Cell) -> str:
    return f"{cell.rate:.4f}" + ("!" if cell.passed is False else "")


def _bounds(cell: Cell) -> str:
    if cell.passed is None:
        return "none promised"
    if cell.low == 0.0:
        return f"at most {cell.high:.4f}"
    return f"at least {cell.low:.4f}" if cell.high == 1.0 else f"{cell.low:.4f} to {cell.high:.4f}"


def to_markdown(calibration: Calibration) -> str:
    """Two tables, each with a blank line after it."""
    fixed = _markdown(
        ["check", "design", "K", *[f"n = {n}" for n in columns()], "bounds"],
        [
            [row.check, row.design, str(row.comparisons), *row.rates, row.bounds]
            for row in fixed_rows(calibration.cells)
        ],
    )
    adding = _markdown(
        ["when seeds are added", "design", "looks at n", "false positives", "bounds"],
        adding_rows(calibration.cells),
    )
    return fixed + adding


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n\n"
