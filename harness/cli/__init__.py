"""The command `optbench`: the composition root. Heavy libraries are imported inside its commands."""

from __future__ import annotations

from harness.cli.app import main

__all__ = ["main"]
