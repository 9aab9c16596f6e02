"""The application that every module of commands adds its own to."""

from __future__ import annotations

import typer

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
