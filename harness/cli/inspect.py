"""Commands that look without training: data, schema, doctor."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console

from harness.cli.app import app
from harness.cli.options import JsonOption, SetOption, StudyArgument


@app.command()
def data(
    study_file: StudyArgument, overrides: SetOption = None, as_json: JsonOption = False
) -> None:
    """Build the tokens of a study (once) and describe them: counts, vocabulary, leakage."""
    from harness.data import describe, prepare, render
    from harness.study import load_study

    study = load_study(study_file, overrides or ())
    console = Console(stderr=as_json)
    dataset = prepare(study.data, progress=lambda line: console.print(f"data: {line}"))
    if as_json:
        print(json.dumps(describe(dataset), indent=1))
    else:
        console.print(render(dataset))


@app.command()
def schema(
    section: Annotated[
        str | None, typer.Argument(help="one section, such as training; default: all")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Every key of a study file, with its type, default, unit and meaning."""
    from harness.schema import json_schema, render

    if as_json:
        print(json.dumps(json_schema(), indent=1))
    else:
        Console().print(render(section))


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Check this installation: our packages, the libraries, the hardware."""
    from harness.doctor import checks

    results = checks()
    if as_json:
        print(json.dumps(results, indent=1))
    else:
        Console().print(_table(results))
    if not all(result["ok"] for result in results):
        raise typer.Exit(1)


def _table(results: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("", "check", "found"):
        table.add_column(column)
    for result in results:
        mark = "[green]ok[/]" if result["ok"] else "[red]wrong[/]"
        table.add_row(mark, result["check"], result["found"])
    return table
