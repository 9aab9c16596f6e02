"""Commands that look without training: data, schema, routes, doctor."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from harness.cli.app import app
from harness.cli.options import JsonOption, SetOption, StudyArgument
from harness.errors import UserError
from harness.report.terminal.console import PlainConsole


@app.command()
def data(
    study_file: StudyArgument, overrides: SetOption = None, as_json: JsonOption = False
) -> None:
    """Build the tokens of a study (once) and describe them: counts, vocabulary, leakage."""
    from harness.data import describe, prepare
    from harness.report.terminal.data import render_data
    from harness.study.load import load_study

    study = load_study(study_file, overrides or ())
    console = PlainConsole(stderr=as_json)
    dataset = prepare(study.data, progress=lambda line: console.print(f"data: {line}"))
    if as_json:
        print(json.dumps(describe(dataset), indent=1))
    else:
        console.print(render_data(dataset))


@app.command()
def schema(
    section: Annotated[
        str | None, typer.Argument(help="one section, such as training; default: all")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Every key of a study file, with its type, default, unit and meaning."""
    from harness.report.terminal.schema import render_schema
    from harness.study.schema import json_schema

    if as_json:
        print(json.dumps(json_schema(), indent=1))
    else:
        PlainConsole().print(render_schema(section))


@app.command()
def routes(
    study_file: StudyArgument,
    variant: Annotated[
        str | None, typer.Option(help="name of the variant; default: all of them")
    ] = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Each parameter's route: algorithm, reason, owner, batch, operations and bytes a step.

    optbench routes STUDY --variant muon --set resources.workers=4
    """
    from harness.data import prepare
    from harness.report.terminal.routes import render_routes
    from harness.study.load import load_study
    from harness.study.study_file import find_variant
    from harness.training.routes import forecast_routes, to_json

    study = load_study(study_file, overrides or ())
    console = PlainConsole(stderr=as_json)
    dataset = prepare(study.data, progress=lambda line: console.print(f"data: {line}"))
    chosen = study.variants if variant is None else (find_variant(study, variant),)
    results = {}
    for one in chosen:
        try:
            results[one.name] = forecast_routes(study, one, vocab_size=dataset.vocab_size)
        except ValueError as error:
            raise UserError(f"variants.{one.name}: {error}") from None
    if as_json:
        print(json.dumps({name: to_json(result) for name, result in results.items()}, indent=1))
        return
    for name, result in results.items():
        console.print(render_routes(result, f"{name}, {study.resources.workers} worker(s)"))


@app.command()
def doctor(
    cpus_per_worker: Annotated[
        int,
        typer.Option(min=1, help="threads to measure with, as resources.cpus_per_worker"),
    ] = 1,
    as_json: JsonOption = False,
) -> None:
    """Check this installation: our packages, the libraries, the hardware.

    Measures products of matrices in fp32 and bf16, and says which `precision` this machine does
    best and what `ns_dtype = "auto"` becomes here.
    """
    from harness.cli.doctor import checks

    results = checks(threads=cpus_per_worker)
    if as_json:
        print(json.dumps(results, indent=1))
    else:
        PlainConsole().print(_table(results))
    if not all(result["ok"] for result in results):
        raise typer.Exit(1)


def _table(results: list[dict[str, Any]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in ("", "check", "found"):
        table.add_column(column)
    for result in results:
        mark = Text("ok", style="green") if result["ok"] else Text("wrong", style="red")
        table.add_row(mark, result["check"], result["found"])
    return table
