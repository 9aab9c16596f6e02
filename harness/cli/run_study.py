"""What `optbench run` does: search, confirm, conclude, each from what the files already hold."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from harness.cli.progress import Progress
from harness.data import TokenDataset
from harness.errors import StudyStopped, UserError
from harness.report.terminal.plan import twins_sentence
from harness.runs.folder import StudyFolder
from harness.runs.other_code import other_code_notice
from harness.runs.plan_file import load_plan
from harness.runs.search_log import SearchLog, Suggested
from harness.study.code_version import code_sha256
from harness.study.resolution import device_type
from harness.study.study_file import Study
from harness.tracking.address import without_password
from harness.tracking.live import LiveWriter

if TYPE_CHECKING:
    from harness.analysis.study_results import StudyResults
    from tune.job import Job, Launch
    from tune.search.rounds import Round


class StudyRun:
    """One run of a study; use it as a context manager.

    It connects to Ray, and lets MLflow follow, when the first trial must be trained, and only then.
    """

    def __init__(
        self,
        study: Study,
        *,
        folder: StudyFolder,
        dataset: TokenDataset,
        console: Console,
        address: str | None,
        tracking_uri: str | None,
        time_budget_s: float | None = None,
    ) -> None:
        self.study, self.folder, self.dataset = study, folder, dataset
        self.console, self.address, self.tracking_uri = console, address, tracking_uri
        self.deadline = None if time_budget_s is None else time.monotonic() + time_budget_s
        self._environment: subprocess.Popen[bytes] | None = None  # set once Ray is there
        self._mlflow: LiveWriter | None = None

    def __enter__(self) -> StudyRun:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Lets MLflow take the last reports; what it lacks after a whole run, `conclude` says."""
        if self._mlflow is not None and (problem := self._mlflow.finish()) and kind is not None:
            left_out(self.console, problem)

    def search(self) -> None:
        """Searches, round after round, until every variant's settings are chosen.

        Raises:
            StudyStopped: runs of a round have no outcome; nothing is chosen without them.
        """
        if self.study.tuning is None:
            return
        from harness.analysis.search.summary import summarise_search
        from harness.report.terminal.search import render_search
        from harness.runs.snapshot import load_snapshot
        from tune.search.rounds import next_round

        while (current := next_round(self.study, self.folder)) is not None:
            if open_trials := self._search(current):
                raise StudyStopped(still_open(open_trials, "The search cannot go on without them"))
        found = summarise_search(load_snapshot(self.folder))
        assert found is not None, "a study with [tuning] has a search"
        self.console.print(render_search(found))

    def confirm(self, *, retry_failed: bool, retrain_other_code: bool = False) -> str | None:
        """Trains the trials that measure and are missing, up to each look.

        Returns:
            which of them have no outcome now, and why; None when all have one.
        """
        from tune.confirmation import confirmation_batches

        plan = load_plan(self.folder)
        for names in plan.twins():
            self.console.print(f"{twins_sentence(names)}.", soft_wrap=True)
        if not retrain_other_code and (notice := other_code_notice(self.folder, plan)):
            self.console.print(Text(f"{notice}.", style="yellow"), soft_wrap=True)
        for batch in confirmation_batches(
            self.study,
            self.folder,
            retry_failed=retry_failed,
            code=code_sha256() if retrain_other_code else None,
        ):
            if not batch.missing:
                self.console.print(f"All {batch.wanted} trials are done: nothing to train.")
            elif open_trials := self._train(batch.missing):
                return still_open(open_trials, "The report below is without them")
        return None

    @property
    def _launch(self) -> Launch:
        from tune.job import Launch

        return Launch(
            folder=self.folder,
            dataset_path=self.dataset.path,
            resources=self.study.resources,
            checkpoints=self.study.checkpoints,
        )

    def _train(self, missing: Sequence[Job]) -> dict[str, str]:
        """Names of the trials that have no outcome now, with the reason."""
        plan = load_plan(self.folder)
        total = len({trial.key for trial in plan.trials if trial.phase != "tuning"})
        with self._progress(total, total - len(missing), "to train") as progress:
            from tune.driver import run_trials

            given_up = run_trials(
                missing,
                launch=self._launch,
                observers=[progress],
                deadline=self.deadline,
                say=progress.notice,
            )
        return {
            job.name: given_up.get(job.key, TIME_IS_UP)
            for job in missing
            if self.folder.trial(job.key).outcome() is None
        }

    def _search(self, current: Round) -> dict[str, str]:
        """Names of the runs that have no outcome now, with the reason."""
        study = self.study
        keys = {
            key
            for event in SearchLog(self.folder.path).events()
            if isinstance(event, Suggested) and event.round == current.index
            for key in event.keys.values()
        }
        done = sum(self.folder.trial(key).outcome() is not None for key in keys)
        total = current.trials * len(study.searched) * len(study.seeds.tuning)
        with self._progress(total, done, f"of the search, round {current.index + 1},") as progress:
            from tune.driver import run_round

            given_up = run_round(
                study,
                current,
                launch=self._launch,
                dataset=self.dataset,
                observers=[progress],
                deadline=self.deadline,
                say=progress.notice,
            )
        late = self.deadline is not None and time.monotonic() > self.deadline
        return given_up or ({"the rest of the round": TIME_IS_UP} if late else {})

    @contextmanager
    def _progress(self, total: int, done: int, what: str) -> Iterator[Progress]:
        """Says what is coming, connects to Ray, and shows how far it is; also when interrupted."""
        if self._mlflow is None:
            say_where(self.console, self.folder.runs_dir, self.tracking_uri)
        self.console.print(
            f"{self.study.name}: {total - done} trials {what} ({done} done), "
            f"{self.study.resources.workers} worker(s) each"
        )
        with Progress(total=total, already_done=done, console=self.console) as progress:
            self._connect(progress)
            with progress.kept_when_interrupted():
                yield progress
        assert self._environment is not None, "Ray is connected before the first trial"
        self._environment.wait()

    def _connect(self, progress: Progress) -> None:
        """Joins or starts Ray once, checks that a gang fits, and notes the environment."""
        if self._environment is not None:
            return
        from harness.runs.environment import write_beside
        from harness.training.checkpoint.storage import check_storage
        from tune.cluster.capacity import check_fits
        from tune.cluster.connection import connect

        if self.study.checkpoints.storage is not None:
            check_storage(self.study.checkpoints.storage)
        progress.say("starting Ray")
        check_fits(self.study.resources, connect(self.address))
        self._mlflow = LiveWriter(self.folder, tracking_uri=self.tracking_uri)
        if self.address is not None:
            progress.say("asking every node, and bringing it the data")
        look_at_nodes(self.study, self.dataset, self.console)
        progress.say("Ray is there, starting the first workers")
        self._environment = write_beside(self.folder.environment_path)


def look_at_nodes(study: Study, dataset: TokenDataset, console: Console) -> None:
    """Says before anything trains where the nodes of a cluster differ, or could only fail."""
    from tune.checks.canary import check_nodes
    from tune.checks.mixed_hardware import hardware_notices

    checked = check_nodes(
        study.resources,
        device=device_type(study),
        dataset_path=dataset.path,
        data_sha256=dataset.manifest.sha256,
    )
    for notice in (*checked.warnings, *hardware_notices(study, checked.hardware)):
        console.print(Text(f"{notice}.", style="yellow"), soft_wrap=True)


TIME_IS_UP = "the time budget was spent"


def still_open(trials: Mapping[str, str], consequence: str) -> str:
    """Which trials have no outcome, why, and what to do."""
    shown = [f"{name}: {cause}" for name, cause in list(trials.items())[:4]]
    if len(trials) > 4:
        shown.append(f"and {len(trials) - 4} more")
    count = f"{len(trials)} trial{'s' if len(trials) > 1 else ''}"
    return (
        f"{count} without an outcome, because of the machine or because somebody stopped them "
        f"({'; '.join(shown)}). {consequence}; run the same command again to go on"
    )


def conclude(
    folder: StudyFolder,
    console: Console,
    tracking_uri: str | None,
    *,
    horizons: Sequence[StudyFolder] = (),
) -> None:
    """From the files to the analysis, the report and MLflow.

    Args:
        horizons: studies of the same baseline at other lengths, see `harness.report.write`.

    Raises:
        UserError: the study's analysis cannot be applied to what was trained; the report is there.
    """
    from harness.analysis.study_analysis import analyse_study
    from harness.report.terminal.study import render_study
    from harness.report.write import write_report

    results = analyse_study(folder)
    page = write_report(results, horizons=horizons)
    if results.error is not None:
        raise UserError(results.error)
    console.print(render_study(results))
    track(results, console, tracking_uri)
    console.print(f"Report:    {page}", soft_wrap=True)
    say_where(console, folder.runs_dir, tracking_uri)


def track(results: StudyResults, console: Console, tracking_uri: str | None) -> bool:
    """Brings MLflow up to date; False where it could not be written, which is said."""
    from harness.tracking.tracker import Tracker, TrackingUnavailable

    try:
        Tracker(results.folder, tracking_uri).sync(results)
    except TrackingUnavailable as error:
        left_out(console, str(error))
        return False
    return True


def left_out(console: Console, problem: str) -> None:
    text = Text("MLflow was left out", style="yellow")
    text.append(f": {problem}. `optbench sync` writes it later.", style="default")
    console.print(text, soft_wrap=True)


def say_where(console: Console, runs_dir: Path, tracking_uri: str | None) -> None:
    """Where a person looks at the runs."""
    server = f"optbench ui --runs-dir {_shown(runs_dir)}"
    if tracking_uri:
        server = f"at {without_password(tracking_uri)}"
    console.print(Text(f"MLflow UI: {server}"), soft_wrap=True)


def _shown(path: Path) -> str:
    """The path as one would type it here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
