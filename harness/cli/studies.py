"""Commands that run studies: run, trial, plan, report, sync, ui."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from harness.cli.app import app
from harness.cli.folders import NamedStudyOrSuite, named, named_folder, study_folder
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
from harness.cli.preparing import prepare_data, resolved, tell_growth, write_context
from harness.errors import StudyStopped, UserError
from harness.report.terminal.console import PlainConsole

if TYPE_CHECKING:
    from harness.runs.folder import StudyFolder
    from harness.runs.suite_folder import SuiteFolder
    from harness.tracking.study_runs import Sent


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

    A suite (a file with [[tasks]]) trains all its tasks through one queue, and is decided over
    them: `optbench run studies/suite-quickstart.toml`.

    Run it again at any time: finished trials are kept, and only what is missing is trained.
    """
    from harness.cli.run_study import StudyRun, conclude
    from harness.runs.plan_file import freeze
    from harness.study.plan import make_plan
    from harness.study.suite_file import Suite, load_study_or_suite
    from tune.cluster.capacity import check_fits, this_machine
    from tune.cluster.joining import cluster_meant, ignored_address

    console = PlainConsole()
    budget_s = None if time_budget is None else seconds(time_budget)
    if storage is not None:
        overrides = [*(overrides or ()), f"checkpoints.storage={json.dumps(storage)}"]
    study = load_study_or_suite(study_file, overrides or ())
    if (ignored := ignored_address(address)) is not None:
        console.print(Text(f"{ignored}.", style="yellow"), soft_wrap=True)
    if cluster_meant(address) is None:
        check_fits(study.resources, this_machine())
    if isinstance(study, Suite):
        from harness.cli.run_suite import run_suite
        from harness.cli.suite_plans import prepare_suite

        run_suite(
            prepare_suite(study_file, study, runs_dir, console),
            console=console,
            address=address,
            amend=amend,
            retry_failed=retry_failed,
            retrain_other_code=retrain_other_code,
            time_budget_s=budget_s,
            tracking_uri=tracking_uri,
        )
        return
    dataset = prepare_data(study, console)
    dataset.verify()
    folder = study_folder(runs_dir, study.name)
    study, resolution = resolved(study, folder, console)
    plan = make_plan(study, dataset.manifest.sha256, resolution=resolution)
    with folder.locked():
        if freeze(folder, plan, source=study_file, amend=amend) is not None:
            tell_growth(folder, study, console)
        write_context(folder, dataset)
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

    Of a suite: of each of its tasks, with the task's share of the error rate.

    optbench plan studies/quickstart.toml --draft --sigma 0.1 --figure power.png
    """
    from harness.analysis.plan_summary import summarise_plan
    from harness.report.figures.power import save_figure
    from harness.report.terminal.plan import render_plan
    from harness.runs.plan_file import freeze
    from harness.study.plan import make_plan
    from harness.study.suite_file import Suite, load_study_or_suite

    study = load_study_or_suite(study_file, overrides or ())
    console = PlainConsole(stderr=as_json)
    if isinstance(study, Suite):
        from harness.cli.suite_plans import plan_suite, prepare_suite

        if figure is not None:
            raise UserError("--figure shows one study: give it for a task, as a study of its own")
        prepared = prepare_suite(study_file, study, runs_dir, console)
        plan_suite(
            prepared, console=console, sigma=sigma, draft=draft, amend=amend, as_json=as_json
        )
        return
    dataset = prepare_data(study, console)
    folder = study_folder(runs_dir, study.name)
    study, resolution = resolved(study, folder, console)
    frozen = make_plan(study, dataset.manifest.sha256, resolution=resolution)
    if not draft:
        with folder.locked():
            freeze(folder, frozen, source=study_file, amend=amend)
            write_context(folder, dataset)
    summary = summarise_plan(study, frozen, folder, sigma=sigma)
    if figure is not None:
        save_figure(summary, figure)
    if as_json:
        print(json.dumps(summary, indent=1, allow_nan=False))
    else:
        console.print(render_plan(summary))


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
    study, _ = resolved(study, None, console)
    dataset = prepare_data(study, console)
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
    study: NamedStudyOrSuite,
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
    """Rebuild analysis, tables, figures and MLflow runs of a study or a suite from its files."""
    from harness.cli.run_study import conclude
    from harness.runs.suite_folder import SuiteFolder

    folder = named(study, runs_dir)
    if isinstance(folder, SuiteFolder):
        from harness.cli.run_suite import conclude_suite, task_names

        if horizon:
            raise UserError("--horizon adds studies to one study's report: give it for SUITE/TASK")
        with folder.locked(task_names(folder)):
            conclude_suite(folder, PlainConsole(), tracking_uri)
        return
    horizons = [named_folder(name, runs_dir) for name in horizon or ()]
    with folder.locked() if folder.path.exists() else _no_study(folder):
        conclude(folder, PlainConsole(), tracking_uri, horizons=horizons)


@app.command()
def sync(
    study: NamedStudyOrSuite,
    runs_dir: RunsDirOption = DEFAULT_RUNS_DIR,
    tracking_uri: TrackingUriOption = None,
    at_most: Annotated[
        float, typer.Option(help="seconds that it may take in all", min=1.0)
    ] = 600.0,
    as_json: JsonOption = False,
) -> None:
    """Send to MLflow what it lacks of a study or suite, from its files: each point once.

    A run does this itself. Use it after a run whose MLflow server was away.
    """
    from harness.runs.folder import StudyFolder
    from harness.tracking.address import without_password
    from harness.tracking.tracker import Tracker, TrackingUnavailable

    folder = named(study, runs_dir)
    studies = [folder] if isinstance(folder, StudyFolder) else folder.tasks()
    runs, points, deadline = 0, 0, time.monotonic() + at_most
    for one in studies:
        tracker = Tracker(one, tracking_uri)
        with one.locked() if one.path.exists() else _no_study(one):
            try:
                sent = tracker.sync(at_most_s=max(1.0, deadline - time.monotonic()))
            except TrackingUnavailable as error:
                print(f"error: MLflow is not up to date: {error}", file=sys.stderr)
                raise typer.Exit(1) from None
        runs, points = runs + sent.runs, points + sent.points
    if not isinstance(folder, StudyFolder):
        sent = _sync_suite(folder, tracking_uri, max(1.0, deadline - time.monotonic()))
        runs, points = runs + sent.runs, points + sent.points
    where = without_password(tracker.tracking_uri)
    if as_json:
        values = {"tracking_uri": where, "new_runs": runs, "new_points": points}
        print(json.dumps(values, indent=1))
    else:
        print(f"{where}: {runs} new runs, {points:,} new points")


def _sync_suite(folder: SuiteFolder, tracking_uri: str | None, at_most_s: float) -> Sent:
    """What all tasks say together, after the tasks themselves."""
    from harness.analysis.suite.suite_analysis import load_suite_results
    from harness.tracking.suite_runs import SuiteTracker
    from harness.tracking.tracker import TrackingUnavailable

    try:
        results = load_suite_results(folder)
        return SuiteTracker(folder, tracking_uri).sync(results, at_most_s=at_most_s)
    except TrackingUnavailable as error:
        print(f"error: MLflow is not up to date: {error}", file=sys.stderr)
        raise typer.Exit(1) from None


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
