"""Settings as dotted names, and the routes of the parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from harness.report import numbers
from harness.report.elements import Table, left, table
from harness.runs.snapshot import TrialSnapshot
from harness.study.dotted import flatten, write_value


def settings(values: Mapping[str, Any], title: str = "Settings") -> Table:
    """Nested settings as dotted names and values."""
    rows = [(name, write_value(value)) for name, value in flatten(values).items()]
    return table(title, left("setting", "value"), rows)


def routes(trial: TrialSnapshot) -> Table | None:
    """Which part of the optimizer updates which parameter."""
    found = trial.outcome.routes if trial.outcome else []
    if not found:
        return None
    rows = [
        (
            str(route["name"]),
            " × ".join(str(size) for size in route["shape"]),
            str(route["algorithm"]),
            str(route["group"]),
            _matrices(route["matrices"]),
            str(route["reason"]),
        )
        for route in found
    ]
    columns = left("parameter", "shape", "algorithm", "group", "matrices", "reason")
    return table("Routes of the parameters", columns, rows)


def _matrices(matrices: list[dict[str, Any]]) -> str:
    """What Newton-Schulz sees: `8 of 64 × 256`; a dash for AdamW."""
    sizes = Counter((matrix["rows"], matrix["columns"]) for matrix in matrices)
    return (
        ", ".join(f"{count} of {rows} × {columns}" for (rows, columns), count in sizes.items())
        or numbers.MISSING
    )
