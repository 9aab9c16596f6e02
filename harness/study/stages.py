"""The stages of a claim that is taken apart: a variant, read on validation or on leaked windows."""

from __future__ import annotations

from typing import NamedTuple

LEAKED = "@leaked"


class Stage(NamedTuple):
    """A variant and which of its two losses is read."""

    variant: str
    leaked: bool

    def __str__(self) -> str:
        return self.variant + (LEAKED if self.leaked else "")


def read_stage(text: str) -> Stage:
    """`adamw`, or `adamw@leaked`: its loss on windows of the training text."""
    leaked = text.endswith(LEAKED)
    return Stage(text.removesuffix(LEAKED), leaked)
