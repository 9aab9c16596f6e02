"""What holds the weights and exchanges the gradients: one protocol, several answers."""

from __future__ import annotations

from harness.backends.protocol import Backend, WorkerContext, open_backend

__all__ = ["Backend", "WorkerContext", "open_backend"]
