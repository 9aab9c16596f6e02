"""Settings as dotted names, and the routes of the parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from harness.report import numbers
from harness.report.blocks import Table, left, table
from harness.report.view import TrialView


def settings(values: Mapping[str, Any], title: str = "Settings") -> Table:
    """Nested settings as dotted names and values."""
    rows = [(name, write_value(value)) for name, value in flatten(values).items()]
    return table(title, left("setting", "value"), rows)


def routes(trial: TrialView) -> Table | None:
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


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`. Tables in a list count by position."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{path}.")
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            flat |= flatten({str(index): item for index, item in enumerate(value)}, f"{path}.")
        else:
            flat[path] = value
    return flat


def write_value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ", ".join(write_value(item) for item in value) if value else "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
