"""Writes the reference pages that are made from the code: `make docs`.

A test runs this with --check, so the help text and the pages cannot disagree.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# Fixes the layout of the help, whatever the terminal; before typer is imported.
os.environ.update(
    TERMINAL_WIDTH="100",
    COLUMNS="100",
    NO_COLOR="1",
    TERM="dumb",
    _TYPER_FORCE_DISABLE_TERMINAL="1",
)

import typer
from typer.testing import CliRunner

import harness.cli.main  # noqa: F401  (registers the commands)
from harness.cli.app import app
from harness.study import schema, suite_schema

REFERENCE = Path(__file__).parent / "reference"


def study_file_page() -> str:
    return (
        "# The study file\n\nOne TOML file is one question. `optbench schema` prints this table, "
        "`optbench schema --json` the JSON Schema.\n\n" + schema.markdown()
    )


def suite_file_page() -> str:
    return (
        "# The suite file\n\nA suite file has `[[tasks]]`, and beside them the sections of a "
        "[study file](study-file.md), common to all tasks; each task is an ordinary study: the "
        "common part with its own tables laid over it, key by key. `optbench schema --suite` "
        "prints this table, `optbench schema --suite --json` the JSON Schema. How to use it: "
        "[run a suite](../how-to/run-a-suite.md).\n\n" + suite_schema.markdown()
    )


def commands_page() -> str:
    paths = [
        [],
        *_commands_of(app),
        *(
            [str(group.name or group.typer_instance.info.name), *path]
            for group in app.registered_groups
            if group.typer_instance is not None
            for path in [[], *_commands_of(group.typer_instance)]
        ),
    ]
    return "\n".join(["# The commands\n\nWhat `--help` prints.\n", *map(_section, paths)])


def _commands_of(group: typer.Typer) -> list[list[str]]:
    return [
        [str(command.name or command.callback.__name__)]
        for command in group.registered_commands
        if command.callback is not None
    ]


def _section(arguments: list[str]) -> str:
    result = CliRunner().invoke(app, [*arguments, "--help"], prog_name="optbench")
    text = "\n".join(line.rstrip() for line in result.stdout.strip("\n").splitlines())
    return f"## optbench {' '.join(arguments)}".rstrip() + f"\n\n```text\n{text}\n```\n"


PAGES = {
    "study-file.md": study_file_page,
    "suite-file.md": suite_file_page,
    "commands.md": commands_page,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; 1 if a page is stale")
    check = parser.parse_args().check
    stale = []
    for name, page in PAGES.items():
        path, text = REFERENCE / name, page()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    if stale:
        print(("stale, run `make docs`: " if check else "written: ") + ", ".join(stale))
    sys.exit(1 if check and stale else 0)


if __name__ == "__main__":
    main()
