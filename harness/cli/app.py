"""The application and its one place for errors."""

from __future__ import annotations

import os
import sys

import typer

from harness.errors import UserError

app = typer.Typer(
    name="optbench",
    help="Is optimizer A really better than optimizer B? A study file asks; seeds answer.\n\n"
    "Start with: optbench run studies/quickstart.toml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def register_commands() -> None:
    """Importing a module of commands registers them, in the order of the help."""
    from harness.cli import inspect, statistics, studies  # noqa: F401


def main() -> None:
    """Exit codes: 0 done, 1 a trial or a library failed, 2 a mistake in the input, 130 Ctrl-C."""
    # Read when these libraries are imported, which happens inside the commands.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    register_commands()
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
