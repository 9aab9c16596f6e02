"""Commands that run studies: run, trial, plan, report, sync, ui."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from harness.cli.app import app
from harness.cli.folders import NamedStudy, named_folder, study_folder
from harness.cli.options import (
    DEFAULT_RUNS_DIR,
    AmendOption,
    JsonOption,
    RunsDirOption,
    SetOption,
    StudyArgument,
    TrackingUriOption,
    seconds,
)
from harness.errors import StudyStopped, UserError
from harness.report.terminal.console import PlainConsole

if TYPE_CHECKING:
    from harness.data import TokenDataset
    from harness.runs.folder import StudyFolder
    from harness.study.resolution import Resolution
    from harness.study.study_file import Study


@app.command()
def run(
    study_file: StudyArgument,
    overrides: SetOption = None,
    runs_dir: RunsDirOption = DEFAULT_RUNS_DIR,
    address: Annotated[
        str | None,
        typer.Option(
            help="a Ray cluster (`auto` or host:port); without it a local Ray is started, and no "
            "cluster joined, whatever RAY_ADDRESS says"
        ),
    ] = None,
    amend: AmendOption = None,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed", help="train failed and out-of-memory confirmation trials again"
        ),
    ] = False,
    retrain_other_code: Annotated[
        bool,
        typer.Option(
            "--retrain-other-code",
            help="train confirmation trials again that another version of the code has trained",
        ),
    ] = False,
    time_budget: Annotated[
        str | None,
        typer.Option(
            help="stop training after this time, such as 90m, 8h or 2d; trials that run are kept "
            "with their checkpoints, and the same command goes on with them"
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="folder or URI, such as s3://bucket/runs, where checkpoints are kept in this run, "
            "instead of checkpoints.storage"
        ),
    ] = None,
    tracking_uri: TrackingUriOption = None,
) -> None:
    """Run a study: train what is missing, decide what is significant, write the report.

    Run it again at any time: finished trials are kept, and only what is missing is trained.
    """
    from harness.cli.run_study import StudyRun, conclude
    from harness.runs.plan_file import freeze
    from harness.study.load import load_study
    from harness.study.plan import make_plan
    from tune.cluster.capacity import check_fits, this_machine
    from tune.cluster.joining import cluster_meant, ignored_address

    console = PlainConsole()
    budget_s = None if time_budget is None else seconds(time_budget)
    if storage is not None:
        overrides = [*(overrides or ()), f"checkpoints.storage={json.dumps(storage)}"]
    study = load_study(study_file, overrides or ())
    if (ignored := ignored_address(address)) is not None:
        console.print(Text(f"{ignored}.", style="yellow"), soft_wrap=True)
    if cluster_meant(address) is None:
        check_fits(study.resources, this_machine())
    dataset = _prepare_data(study, console)
    dataset.verify()
    folder = study_folder(runs_dir, study.name)
    study, resolution = _resolved(study, folder, console)
    plan = make_plan(study, dataset.manifest.sha256, resolution=resolution)
    with folder.locked():
        if freeze(folder, plan, source=study_file, amend=amend) is not None:
            _tell_growth(folder, study, console)
        _write_context(folder, dataset)
        with StudyRun(
            study,
            folder=folder,
            dataset=dataset,
            console=console,
            address=address,
            tracking_uri=tracking_uri,
            time_budget_s=budget_s,
        ) as study_run:
            study_run.search()
            still_open = study_run.confirm(
                retry_failed=retry_failed, retrain_other_code=retrain_other_code
            )
        conclude(folder, console, tracking_uri)
    if still_open is not None:
        raise StudyStopped(still_open)


@app.command()
def plan(
    study_file: StudyArgument,
    overrides: SetOption = None,
    runs_dir: RunsDirOption = DEFAULT_RUNS_DIR,
    sigma: Annotated[
        float | None,
        typer.Option(
            help="standard deviation of a run's final loss over seeds, in nats; default: "
            "analysis.sigma, or else that of the study's finished trials"
        ),
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="write the curve of power over seeds to this PNG")
    ] = None,
    draft: Annotated[
        bool, typer.Option("--draft", help="only show it: nothing is frozen or written")
    ] = False,
    amend: AmendOption = None,
    as_json: JsonOption = False,
) -> None:
    """Freeze and show the plan: what is compared, what it costs, what the seeds can show.

    For every number of seeds: the difference that is found, and whether the margin is found and
    equivalence shown. Proposes looks, with what they cost in power and save in seeds.

    optbench plan studies/quickstart.toml --draft --sigma 0.1 --figure power.png
    """
    from harness.analysis.plan_summary import summarise_plan
    from harness.report.figures.power import save_figure
    from harness.report.terminal.plan import render_plan
    from harness.runs.plan_file import freeze
    from harness.study.load import load_study
    from harness.study.plan import make_plan

    study = load_study(study_file, overrides or ())
    console = PlainConsole(stderr=as_json)
    dataset = _prepare_data(study, console)
    folder = study_folder(runs_dir, study.name)
    study, resolution = _resolved(study, folder, console)
    frozen = make_plan(study, dataset.manifest.sha256, resolution=resolution)
    if not draft:
        with folder.locked():
            freeze(folder, frozen, source=study_file, amend=amend)
            _write_context(folder, dataset)
    summary = summarise_plan(study, frozen, folder, sigma=sigma)
    if figure is not None:
        save_figure(summary, figure)
    if as_json:
        print(json.dumps(summary, indent=1, allow_nan=False))
    else:
        console.print(render_plan(summary))


def _tell_growth(folder: StudyFolder, study: Study, console: PlainConsole) -> None:
    """What was added to the frozen plan, before it is trained."""
    from harness.analysis.growth import growth_sentences

    for line in growth_sentences(folder.additions(), study.analysis):
        console.print(Text(line, style="yellow"), soft_wrap=True)


def _resolved(
    study: Study, folder: StudyFolder | None, console: PlainConsole
) -> tuple[Study, Resolution | None]:
    """The study with a dtype in the place of every `auto`, and where it comes from."""
    from harness.runs.resolve import resolve
    from harness.study.notices import notices

    found = resolve(study, folder)
    for notice in (*notices(study), *([found.notice] if found.notice is not None else [])):
        console.print(Text(f"{notice}.", style="yellow"), soft_wrap=True)
    return found.study, found.resolution


def _prepare_data(study: Study, console: PlainConsole) -> TokenDataset:
    from harness.data import prepare

    dataset = prepare(study.data, progress=lambda line: console.print(f"data: {line}"))
    _check_data(study, dataset)
    return dataset


def _check_data(study: Study, dataset: TokenDataset) -> None:
    if dataset.num_train_windows < study.training.batch_size:
        raise UserError(
            f"training.batch_size is {study.training.batch_size} and the training text has "
            f"{dataset.num_train_windows} windows of {dataset.sequence_length} tokens: use more "
            "text, shorter windows or a smaller batch"
        )


def _write_context(folder: StudyFolder, dataset: TokenDataset) -> None:
    from harness.runs.files import write_json

    write_json(folder.path / "data.json", dataset.manifest.model_dump(mode="json"))


@app.command()
def trial(
    study_file: StudyArgument,
    variant: Annotated[str, typer.Option(help="name of the variant")],
    seed: Annotated[int, typer.Option(help="seed of the trial", min=0)] = 0,
    overrides: SetOption = None,
    save_to: Annotated[
        str | None, typer.Option(help="folder or URI for a checkpoint of the last step")
    ] = None,
    stop_at: Annotated[
        int | None, typer.Option(help="last step of this run; needs --save-to")
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            help="checkpoint to continue, or a folder of them, with any number of workers and any "
            "backend"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train one trial here and now, without Ray; `torchrun` starts several workers.

    torchrun --nproc-per-node 2 -m harness trial STUDY --variant muon

    The reports go to standard output. Nothing is written without --save-to.
    """
    from harness.study.load import load_study
    from harness.study.study_file import find_variant
    from harness.study.trial import trial_spec
    from harness.training.backends.protocol import WorkerContext
    from harness.training.loop import train

    workers = os.environ.get("WORLD_SIZE", "1")
    study = load_study(study_file, [*(overrides or ()), f"resources.workers={workers}"])
    quiet = int(os.environ.get("RANK", "0")) > 0
    console = PlainConsole(stderr=as_json, quiet=quiet)
    study, _ = _resolved(study, None, console)
    dataset = _prepare_data(study, console)
    spec = trial_spec(study, find_variant(study, variant), seed, dataset.manifest.sha256)
    context = replace(
        WorkerContext.from_environment(dataset.path),
        cpus=study.resources.cpus_per_worker,
        gpus=study.resources.gpus_per_worker,
        save_to=save_to,
        stop_at_step=stop_at,
        resume_from=resume,
    )
    training = train(spec, context)
    while True:
        try:
            report = next(training)
        except StopIteration as end:
            outcome = end.value
            break
        if as_json and not quiet:
            print(report.model_dump_json(), flush=True)
        else:
            console.print(_report_line(report, spec.training.steps), soft_wrap=True)
    if as_json and not quiet:
        print(outcome.model_dump_json(), flush=True)
    else:
        console.print(
            f"{outcome.outcome}: validation loss {outcome.validation_loss}, "
            f"initial {str(outcome.initial_parameters_sha256)[:12]}, "
            f"batches {str(outcome.batches_sha256)[:12]}",
            soft_wrap=True,
        )
    if save_to is not None and outcome.outcome != "diverged":
        console.print(f"saved step {outcome.step} to {save_to}", soft_wrap=True)


def _report_line(report: Any, steps: int) -> str:
    train_loss = "-" if report.train_loss is None else f"{report.train_loss:.4f}"
    validation = "-" if report.validation_loss is None else f"{report.validation_loss:.4f}"
    speed = f"{report.tokens_per_s:,.0f} tokens/s" if report.tokens_per_s else ""
    return (
        f"step {report.step:>6}/{steps}  train {train_loss}  validation {validation}  "
        f"accuracy {report.validation_accuracy:.3f}  {speed}"
    )


@app.command()
def report(
    study: NamedStudy,
    runs_dir: RunsDirOption = DEFAULT_RUNS_DIR,
    horizon: Annotated[
        list[str] | None,
        typer.Option(
            help="another study of the same baseline at another length (give three or more, each "
            "with its own --horizon): adds the speed-up in data, which one length cannot show "
            "without bias"
        ),
    ] = None,
    tracking_uri: TrackingUriOption = None,
) -> None:
    """Rebuild analysis, tables, figures and MLflow runs of a study from its files."""
    from harness.cli.run_study import conclude

    folder = named_folder(study, runs_dir)
    horizons = [named_folder(name, runs_dir) for name in horizon or ()]
    with folder.locked() if folder.path.exists() else _no_study(folder):
        conclude(folder, PlainConsole(), tracking_uri, horizons=horizons)


@app.command()
def sync(
    study: Annotated[str, typer.Argument(help="a study file, or the name of a study")],
    runs_dir: RunsDirOption = DEFAULT_RUNS_DIR,
    tracking_uri: TrackingUriOption = None,
    at_most: Annotated[
        float, typer.Option(help="seconds that it may take in all", min=1.0)
    ] = 600.0,
    as_json: JsonOption = False,
) -> None:
    """Send to MLflow what it lacks of a study, from its files: each point once, however often.

    A run does this itself. Use it after a run whose MLflow server was away.
    """
    from harness.tracking.address import without_password
    from harness.tracking.tracker import Tracker, TrackingUnavailable

    folder = named_folder(study, runs_dir)
    tracker = Tracker(folder, tracking_uri)
    with folder.locked() if folder.path.exists() else _no_study(folder):
        try:
            sent = tracker.sync(at_most_s=at_most)
        except TrackingUnavailable as error:
            print(f"error: MLflow is not up to date: {error}", file=sys.stderr)
            raise typer.Exit(1) from None
    where = without_password(tracker.tracking_uri)
    if as_json:
        values = {"tracking_uri": where, "new_runs": sent.runs, "new_points": sent.points}
        print(json.dumps(values, indent=1))
    else:
        print(f"{where}: {sent.runs} new runs, {sent.points:,} new points")


def _no_study(folder: StudyFolder) -> Any:
    raise UserError(f"no study in {folder.path}: run `optbench run STUDY` first")


@app.command()
def ui(
    runs_dir: RunsDirOption = DEFAULT_RUNS_DIR,
    port: Annotated[int, typer.Option(help="port on 127.0.0.1")] = 5000,
) -> None:
    """Open the MLflow UI on the runs folder, on 127.0.0.1 only. Ctrl-C ends it."""
    from harness.tracking.tracker import ui_command
    from harness.tracking.ui_views import ui_links

    if not (runs_dir / "mlflow.db").exists():
        raise UserError(f"{runs_dir / 'mlflow.db'} does not exist: run a study first")
    command = ui_command(runs_dir, port=port)
    print(f"MLflow UI: http://127.0.0.1:{port}")
    for study, links in ui_links(runs_dir, port=port):
        for label, link in links.items():
            print(f"  {study}, {label}: {link}")
    sys.stdout.flush()
    os.execv(command[0], command)
