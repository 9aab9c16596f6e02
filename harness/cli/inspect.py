"""Commands that look without training: data, schema, routes, doctor."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.text import Text

from harness.cli.app import app
from harness.cli.options import (
    DEFAULT_RUNS_DIR,
    JsonOption,
    RunsDirOption,
    SetOption,
    StudyArgument,
    TrackingUriOption,
)
from harness.errors import UserError
from harness.report.terminal.console import PlainConsole


@app.command()
def data(
    study_file: StudyArgument, overrides: SetOption = None, as_json: JsonOption = False
) -> None:
    """Build the tokens of a study (once) and describe them: counts, vocabulary, leakage.

    Of a suite: those of each of its tasks.
    """
    from harness.data import describe, prepare
    from harness.report.terminal.data import render_data
    from harness.study.suite_file import Suite, load_study_or_suite

    study = load_study_or_suite(study_file, overrides or ())
    console = PlainConsole(stderr=as_json)
    tasks = {t.name: t.study for t in study.tasks} if isinstance(study, Suite) else {"": study}
    found = {
        name: prepare(one.data, progress=lambda line: console.print(f"data: {line}"))
        for name, one in tasks.items()
    }
    if as_json:
        values = {name: describe(dataset) for name, dataset in found.items()}
        print(json.dumps(values.get("", values), indent=1))
        return
    for name, dataset in found.items():
        if name:
            console.print(Text(f"{name}:", style="bold"))
        console.print(render_data(dataset))


@app.command()
def schema(
    section: Annotated[
        str | None, typer.Argument(help="one section, such as training; default: all")
    ] = None,
    suite: Annotated[
        bool, typer.Option("--suite", help="of a suite file: what it has beside a study file")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Every key of a study file, with its type, default, unit and meaning."""
    from harness.report.terminal.schema import render_schema
    from harness.study.schema import json_schema
    from harness.study.suite_schema import suite_json_schema

    if as_json:
        print(json.dumps(suite_json_schema() if suite else json_schema(), indent=1))
    else:
        PlainConsole().print(render_schema(section, suite=suite))


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
    address: Annotated[
        str | None,
        typer.Option(
            help="a Ray cluster (`auto` or host:port): each of its nodes is checked too, and the "
            "network between them"
        ),
    ] = None,
    runs_dir: RunsDirOption = DEFAULT_RUNS_DIR,
    tracking_uri: TrackingUriOption = None,
    cpus_per_worker: Annotated[
        int,
        typer.Option(min=1, help="threads to measure with, as resources.cpus_per_worker"),
    ] = 1,
    build: Annotated[
        bool,
        typer.Option(
            "--build",
            help="compile DeepSpeed's operator (g++, about a minute); no trial needs it",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check what a study needs, before it starts: this machine, MLflow, every node of a cluster.

    optbench doctor --address auto --tracking-uri http://mlflow:5000

    Each line is ok, a warning (slow, or soon a failure) or a failure (trials would fail or compute
    something else, or MLflow cannot be written), with what to do. The exit code is 1 if there is a
    failure. Give the options that `optbench run` gets: MLflow is written under the address that
    the study will use (what is written is deleted again), and without --address no Ray is started.

    Here: our packages, the libraries, devices, folders and the room in them, DeepSpeed, products of
    matrices in fp32 and bf16 with the `precision` that this machine does best. On each node: the
    same code, Python and libraries as here, devices, folders, niceness, clock. Between the nodes:
    an all-reduce, with its bandwidth.
    """
    from harness.cli.doctor import (
        join,
        local_findings,
        records,
        summary,
        table,
        tracking_finding,
    )

    with _stages(PlainConsole(stderr=True)) as say:
        if address:
            join(address, say=say)
        findings = [
            *local_findings(threads=cpus_per_worker, runs_dir=runs_dir, build=build, say=say),
            tracking_finding(tracking_uri, runs_dir, say=say),
        ]
        if address:
            from tune.checks.cluster_checks import cluster_findings

            findings += cluster_findings(build=build, say=say)
    if as_json:
        print(json.dumps(records(findings), indent=1))
    else:
        console = PlainConsole()
        console.print(table(findings))
        console.print(summary(findings))
    if any(finding.level == "failure" for finding in findings):
        raise typer.Exit(1)


@contextmanager
def _stages(console: PlainConsole) -> Iterator[Callable[[str], None]]:
    """What goes on, for somebody who waits: beside a spinner in a terminal, else line by line."""
    if not console.is_terminal:
        yield lambda doing: console.print(f"{doing} ...", soft_wrap=True)
        return
    with console.status("") as status:
        yield lambda doing: status.update(Text(doing))
