"""The commands, put together, and the one place for errors."""

from __future__ import annotations

import os
import sys

# Importing a module of commands registers them, in the order of the help.
from harness.cli import inspect, statistics, studies  # noqa: F401
from harness.cli.app import app
from harness.errors import StudyStopped, UserError


def main() -> None:
    """Exit codes: 0 done, 1 a trial or a library failed, 2 a mistake in the input, 130 Ctrl-C."""
    # Read when these libraries are imported, which happens inside the commands.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except StudyStopped as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
