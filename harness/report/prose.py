"""Lists and counts as a sentence has them."""

from __future__ import annotations

from collections.abc import Sequence


def listing(items: Sequence[str]) -> str:
    """`one`, `one and two`, `one, two and three`."""
    *head, last = items
    return f"{', '.join(head)} and {last}" if head else last


def plural(count: int, noun: str) -> str:
    """`1 seed`, `5 seeds`."""
    return f"{count} {noun}" + ("" if count == 1 else "s")
