"""What `optbench run` does: search, confirm, conclude, each from what the files already hold."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from harness.cli.progress import Progress
from harness.data import TokenDataset
from harness.errors import UserError
from harness.report.terminal.plan import twins_sentence
from harness.runs.folder import StudyFolder
from harness.runs.other_code import other_code_notice
from harness.runs.plan_file import load_plan
from harness.runs.search_log import SearchLog, Suggested
from harness.study.code_version import code_sha256
from harness.study.resolution import device_type
from harness.study.study_file import Study

if TYPE_CHECKING:
    from tune.job import Job
    from tune.rounds import Round


class StudyRun:
    """One run of a study: connects to Ray when the first trial must be trained, and only then."""

    def __init__(
        self,
        study: Study,
        *,
        folder: StudyFolder,
        dataset: TokenDataset,
        console: Console,
        address: str | None,
    ) -> None:
        self.study, self.folder, self.dataset = study, folder, dataset
        self.console, self.address = console, address
        self._environment: subprocess.Popen[bytes] | None = None  # set once Ray is there

    def search(self) -> None:
        """Searches, round after round, until every variant's settings are chosen."""
        if self.study.tuning is None:
            return
        from harness.analysis.search.summary import summarise_search
        from harness.report.terminal.search import render_search
        from harness.runs.snapshot import load_snapshot
        from tune.rounds import next_round

        while (current := next_round(self.study, self.folder)) is not None:
            self._search(current)
        found = summarise_search(load_snapshot(self.folder))
        assert found is not None, "a study with [tuning] has a search"
        self.console.print(render_search(found))

    def confirm(self, *, retry_failed: bool, retrain_other_code: bool = False) -> None:
        """Trains the trials that measure and are missing, up to each look."""
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
            if batch.missing:
                self._train(batch.missing)
            else:
                self.console.print(f"All {batch.wanted} trials are done: nothing to train.")

    def _train(self, missing: Sequence[Job]) -> None:
        plan = load_plan(self.folder)
        total = len({trial.key for trial in plan.trials if trial.phase != "tuning"})
        with self._progress(total, total - len(missing), "to train") as progress:
            from tune.driver import run_trials

            run_trials(
                missing,
                folder=self.folder,
                dataset_path=self.dataset.path,
                observers=[progress],
                max_concurrent_trials=self.study.resources.max_concurrent_trials,
            )

    def _search(self, current: Round) -> None:
        study = self.study
        keys = {
            key
            for event in SearchLog(self.folder.path).events()
            if isinstance(event, Suggested) and event.round == current.index
            for key in event.keys.values()
        }
        done = sum(self.folder.trial(key).outcome() is not None for key in keys)
        total = current.trials * len(study.variants) * len(study.seeds.tuning)
        with self._progress(total, done, f"of the search, round {current.index + 1},") as progress:
            from tune.driver import run_round

            run_round(
                study, current, folder=self.folder, dataset=self.dataset, observers=[progress]
            )

    @contextmanager
    def _progress(self, total: int, done: int, what: str) -> Iterator[Progress]:
        """Says what is coming, connects to Ray, and shows how far it is; also when interrupted."""
        self.console.print(
            f"{self.study.name}: {total - done} trials {what} ({done} done), "
            f"{self.study.resources.workers} worker(s) each"
        )
        with Progress(total=total, already_done=done, console=self.console) as progress:
            self._connect(progress)
            try:
                yield progress
            except KeyboardInterrupt:
                self.console.print(
                    Text.assemble(
                        ("interrupted", "yellow"),
                        f": {progress.done} of {progress.total} trials are finished and kept; "
                        "run the same command again to go on",
                    ),
                    soft_wrap=True,
                )
                raise
        assert self._environment is not None, "Ray is connected before the first trial"
        self._environment.wait()

    def _connect(self, progress: Progress) -> None:
        """Joins or starts Ray once, checks that a gang fits, and notes the environment."""
        if self._environment is not None:
            return
        from harness.runs.environment import write_beside
        from tune.capacity import check_fits
        from tune.cluster import connect

        progress.say("starting Ray")
        check_fits(self.study.resources, connect(self.address))
        progress.say("Ray is there, starting the first workers")
        self._look_at_nodes()
        self._environment = write_beside(self.folder.environment_path)

    def _look_at_nodes(self) -> None:
        """Says before anything trains where the nodes of a cluster differ."""
        from tune.mixed_hardware import hardware_here, hardware_notices
        from tune.nodes import ask_nodes

        question = partial(hardware_here, device_type(self.study))
        nodes = ask_nodes(question, self.study.resources)
        for notice in hardware_notices(self.study, nodes):
            self.console.print(Text(f"{notice}.", style="yellow"), soft_wrap=True)


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
    from harness.tracking.tracker import Tracker, TrackingUnavailable

    results = analyse_study(folder)
    page = write_report(results, horizons=horizons)
    if results.error is not None:
        raise UserError(results.error)
    console.print(render_study(results))
    try:
        Tracker(folder, tracking_uri).sync(results)
    except TrackingUnavailable as error:
        console.print(
            Text.assemble(
                ("MLflow was left out", "yellow"),
                f": {error}. `optbench report` writes it later.",
            )
        )
    console.print(f"Report:    {page}", soft_wrap=True)
    server = f"at {tracking_uri}" if tracking_uri else f"optbench ui --runs-dir {_shown(folder)}"
    console.print(f"MLflow UI: {server}", soft_wrap=True)


def _shown(folder: StudyFolder) -> str:
    """The runs folder as one would type it here."""
    parent = folder.path.parent
    return str(parent.relative_to(Path.cwd()) if parent.is_relative_to(Path.cwd()) else parent)
