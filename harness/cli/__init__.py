"""The command `optbench`: the composition root; its commands import what is heavy."""

from __future__ import annotations

from harness.cli.app import main

__all__ = ["main"]
