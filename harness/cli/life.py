"""Commands that follow a study while it lives: status, logs, stop."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.app import app
from harness.cli.folders import NamedStudy, NamedStudyOrSuite, named, named_folder
from harness.cli.options import DEFAULT_RUNS_DIR, JsonOption, RunsDirOption
from harness.errors import UserError
from harness.report.terminal.console import PlainConsole

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.runs.folder import StudyFolder
    from harness.runs.snapshot import TrialSnapshot
    from harness.runs.suite_folder import SuiteFolder

WATCH_S = 2.0

TrialArgument = Annotated[
    str,
    typer.Argument(
        metavar="TRIAL", help="a trial's key, the beginning of it, or VARIANT/SEED, e.g. muon/3"
    ),
]


@app.command()
def status(
    study: NamedStudyOrSuite,
    runs_dir: RunsDirOption = DEFAULT_RUNS_DIR,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="show it anew every 2 seconds, until the study is over"),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how far a study is, from its files; also while it runs in another terminal.

    Says which process runs it, and whether that still lives. A trial that was cut off is
    `interrupted`: the next `optbench run` goes on with it.

    Of a suite it shows a line for each task; SUITE/TASK shows one of them, trial by trial.

    optbench status quickstart --watch
    """
    folder = named(study, runs_dir)
    if watch and as_json:
        raise UserError("--watch is for a terminal and --json for a script: give one of them")
    if watch:
        _watch(folder)
    elif as_json:
        print(json.dumps(_status(folder), indent=1))
    else:
        PlainConsole().print(_rendered(_status(folder)))


def _status(folder: StudyFolder | SuiteFolder) -> dict[str, Any]:
    from harness.report.terminal.status import status_values
    from harness.report.terminal.suite_status import suite_status_values
    from harness.runs.snapshot import load_snapshot
    from harness.runs.suite_folder import SuiteFolder

    if isinstance(folder, SuiteFolder):
        return suite_status_values(folder)
    return status_values(load_snapshot(folder))


def _rendered(status: dict[str, Any]) -> RenderableType:
    from harness.report.terminal.status import render_status
    from harness.report.terminal.suite_status import render_suite_status

    return render_suite_status(status) if "tasks" in status else render_status(status)


def _is_over(status: dict[str, Any]) -> bool:
    from harness.report.terminal.status import is_over
    from harness.report.terminal.suite_status import all_trials

    return is_over(all_trials(status) if "tasks" in status else status)


def _watch(folder: StudyFolder | SuiteFolder) -> None:
    """Until the study is over or somebody presses Ctrl-C, which ends nothing but the watching."""
    from rich.live import Live

    now = _status(folder)
    with Live(_rendered(now), console=PlainConsole(), auto_refresh=False) as live:
        try:
            while not _is_over(now):
                time.sleep(WATCH_S)
                now = _status(folder)
                live.update(_rendered(now), refresh=True)
        except KeyboardInterrupt:
            return


@app.command()
def logs(
    study: NamedStudy,
    trial: TrialArgument,
    runs_dir: RunsDirOption = DEFAULT_RUNS_DIR,
    as_json: JsonOption = False,
) -> None:
    """Show each attempt of a trial: hosts, devices, how long, how far, why it ended, last lines.

    An attempt is one try of the machines to train the trial. The last lines of a worker's log are
    those at the attempt's end; while it runs, those of the workers on this host.

    optbench logs quickstart muon/3
    """
    from harness.report.terminal.attempts import render_attempts
    from harness.runs.attempt_story import attempts_of
    from harness.runs.named_trial import find_trial
    from harness.runs.snapshot import load_snapshot

    folder = named_folder(study, runs_dir)
    snapshot = load_snapshot(folder)
    found = find_trial(snapshot, trial)
    attempts = attempts_of(folder.trial(found.key).attempts())
    name = snapshot.trial_names()[found.planned]
    if as_json:
        values = {
            "trial": name,
            "trial_key": found.key,
            "state": found.state,
            "attempts": [attempt.to_json() for attempt in attempts],
        }
        print(json.dumps(values, indent=1))
    else:
        PlainConsole().print(render_attempts(name, found, attempts), soft_wrap=True)


@app.command()
def stop(
    study: NamedStudy,
    trial: TrialArgument,
    why: Annotated[
        str, typer.Option(metavar="WHY", help="the reason; `optbench logs` shows it")
    ] = "somebody asked",
    runs_dir: RunsDirOption = DEFAULT_RUNS_DIR,
) -> None:
    """Ask the process that runs a study to end the attempt of one trial.

    The trial stays open and gets no outcome, so the statistics are not bent: a later `optbench run`
    goes on with it. Whoever does not want its result changes the question: see `--amend`.

    optbench stop quickstart muon/3 --why "the node is needed"
    """
    from harness.runs.named_trial import find_trial
    from harness.runs.snapshot import load_snapshot

    folder = named_folder(study, runs_dir)
    snapshot = load_snapshot(folder)
    found = find_trial(snapshot, trial)
    name = snapshot.trial_names()[found.planned]
    if (reason := _cannot_stop(folder, found)) is not None:
        raise UserError(f"{name} is not running: {reason}; nothing was asked")
    folder.trial(found.key).request_stop(why)
    PlainConsole().print(
        f"Asked the driver to end the attempt of {name}. The trial stays open, without an outcome: "
        "a later `optbench run` goes on with it.",
        soft_wrap=True,
    )


def _cannot_stop(folder: StudyFolder, trial: TrialSnapshot) -> str | None:
    """Why there is nothing to stop; None where there is."""
    if trial.outcome is not None:
        return f"it has ended ({trial.outcome.outcome})"
    owner = folder.owner()
    if owner is None:
        return "nobody runs this study"
    if owner.life() == "dead":
        return f"the driver no longer lives ({owner.words})"
    events = folder.trial(trial.key).attempts()
    if events[-1].event == "ended" if events else trial.spec is None:
        return "no attempt of it has begun, or the last one is over"
    return None
