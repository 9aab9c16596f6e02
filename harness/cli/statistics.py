"""Commands for statistics without training: compare."""

from __future__ import annotations
