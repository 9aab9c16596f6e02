"""Rows of a dataset that the `datasets` library streams, and the text in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from harness.errors import UserError


def read_rows(
    load: Callable[[], Iterable[dict[str, Any]]], *, where: str, advice: str
) -> Iterator[dict[str, Any]]:
    """Rows of a streamed dataset; whatever goes wrong while reading is one clear error.

    Broad on purpose: depending on the failing layer `datasets` raises its own errors, those of
    the hub client, of the HTTP client, of pyarrow or plain `OSError`s. The consumer's own errors
    do not pass through here.
    """
    try:
        yield from load()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"cannot read {where} ({reason}): {advice}") from error


def texts(rows: Iterable[dict[str, Any]], *, column: str, where: str) -> Iterator[str]:
    """The column of every row, empty where it holds nothing."""
    for number, row in enumerate(rows):
        if column not in row:
            raise UserError(
                f"text_column {column!r} is not in {where}: it has {', '.join(sorted(row))}"
            )
        text = row[column]
        if text is not None and not isinstance(text, str):
            raise UserError(
                f"text_column {column!r} of row {number} in {where} holds "
                f"{type(text).__name__}, not text: choose another column"
            )
        yield text or ""
