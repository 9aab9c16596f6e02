"""What `optbench run` does with a suite: its tasks' studies, through one queue."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from harness.cli.progress import Progress
from harness.cli.run_study import TIME_IS_UP, left_out, look_at_nodes, say_where, track
from harness.cli.suite_plans import Once, PreparedSuite
from harness.cli.suite_progress import SuiteProgress, expected
from harness.errors import StudyStopped, UserError
from harness.runs.files import write_text
from harness.runs.other_code import other_code_notice
from harness.runs.plan_file import load_plan
from harness.runs.suite_folder import SuiteFolder
from harness.runs.suite_plan import load_suite_plan
from harness.study.code_version import code_sha256
from harness.study.suite_file import Task
from harness.tracking.live import LiveWriter

if TYPE_CHECKING:
    from harness.analysis.suite.suite_analysis import SuiteResults
    from tune.courses import Course, Stage
    from tune.job import Launch


def run_suite(
    prepared: PreparedSuite,
    *,
    console: Console,
    address: str | None,
    amend: str | None,
    retry_failed: bool,
    retrain_other_code: bool,
    time_budget_s: float | None,
    tracking_uri: str | None,
) -> None:
    """Trains what is missing of all tasks, then concludes each of them, and the suite.

    Raises:
        StudyStopped: trials have no outcome, or a task was set aside.
    """
    folder = prepared.folder
    for dataset in {str(d.path): d for d in prepared.datasets.values()}.values():
        dataset.verify()
    with folder.locked(prepared.names):
        prepared.freeze(console, amend=amend)
        with SuiteRun(
            prepared,
            console=console,
            address=address,
            tracking_uri=tracking_uri,
            time_budget_s=time_budget_s,
        ) as suite_run:
            left = suite_run.train(retry_failed=retry_failed, retrain_other_code=retrain_other_code)
        conclude_suite(folder, console, tracking_uri)
    if left:
        raise StudyStopped(
            "the suite is not complete: "
            + "; ".join(left[:4])
            + (f"; and {len(left) - 4} more" if len(left) > 4 else "")
            + ". The report is without them; run the same command again to go on"
        )


class SuiteRun:
    """One run of a suite; use it as a context manager.

    As `StudyRun`: Ray and MLflow are there once the first trial must be trained, and only then.
    """

    def __init__(
        self,
        prepared: PreparedSuite,
        *,
        console: Console,
        address: str | None,
        tracking_uri: str | None,
        time_budget_s: float | None = None,
    ) -> None:
        self.prepared, self.suite, self.folder = prepared, prepared.suite, prepared.folder
        self.console, self.address, self.tracking_uri = console, address, tracking_uri
        self.deadline = None if time_budget_s is None else time.monotonic() + time_budget_s
        self._mlflow: LiveWriter | None = None
        self._shown: SuiteProgress | None = None

    def __enter__(self) -> SuiteRun:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._mlflow is not None and (problem := self._mlflow.finish()) and kind is not None:
            left_out(self.console, problem)

    def train(self, *, retry_failed: bool, retrain_other_code: bool) -> list[str]:
        """Trains all that is missing, of every task: searches, and what measures, look by look.

        Returns:
            what has no outcome now, and why, in sentences.
        """
        code = code_sha256() if retrain_other_code else None
        if code is None:
            self._notice_other_code()
        courses, left = [], []
        for task in self.suite.tasks:
            try:
                course = self._course(task, retry_failed=retry_failed, code=code)
            except UserError as error:
                left.append(f"{task.name}: {error}")
                continue
            if course is not None:
                courses.append(course)
        if not courses:
            if not left:
                self.console.print("All trials of all tasks are done: nothing to train.")
            return left
        self._train(courses)
        for course in courses:
            left += _what_is_left(course)
        return left

    def _course(self, task: Task, *, retry_failed: bool, code: str | None) -> Course | None:
        """None where the task has nothing to train."""
        from tune.driver import course_of, study_stages

        launch, dataset = self._launch(task), self.prepared.datasets[task.name]
        stages = study_stages(
            task.study, launch=launch, dataset=dataset, retry_failed=retry_failed, code=code
        )
        first = next(stages, None)
        if first is None:
            return None
        variants = (variant.name for variant in task.study.variants)
        followed = self._followed(task, stages)
        return course_of(chain([first], followed), launch=launch, variants=variants)

    def _followed(self, task: Task, stages: Iterator[Stage]) -> Iterator[Stage]:
        """The same stages; the progress learns how many trials each of them adds."""
        for stage in stages:
            if self._shown is not None:
                _, trials = expected(task.study, self.folder.task(task.name))
                self._shown.expect(task.name, trials)
            yield stage

    def _launch(self, task: Task) -> Launch:
        from tune.job import Launch

        return Launch(
            folder=self.folder.task(task.name),
            dataset_path=self.prepared.datasets[task.name].path,
            resources=self.suite.resources,
            checkpoints=self.suite.checkpoints,
            task=task.name,
        )

    def _notice_other_code(self) -> None:
        for name in self.prepared.names:
            folder = self.folder.task(name)
            if notice := other_code_notice(folder, load_plan(folder)):
                text = Text(f"{name}: {notice}.", style="yellow")
                self.console.print(text, soft_wrap=True)

    def _train(self, courses: Sequence[Course]) -> None:
        from tune.driver import run_courses

        tasks = {t.name: expected(t.study, self.folder.task(t.name)) for t in self.suite.tasks}
        with self._progress(tasks) as progress:
            run_courses(
                courses,
                folder=self.folder,
                resources=self.suite.resources,
                observers=[progress],
                deadline=self.deadline,
                say=progress.notice,
            )

    @contextmanager
    def _progress(self, tasks: Mapping[str, tuple[int, int]]) -> Iterator[SuiteProgress]:
        """Says what is coming, connects to Ray, and shows how far it is; also when interrupted."""
        say_where(self.console, self.folder.path.parent, self.tracking_uri)
        done, total = (sum(values) for values in zip(*tasks.values(), strict=True))
        self.console.print(
            f"{self.suite.name}: {len(tasks)} tasks, up to {total - done} trials to train "
            f"({done} done), {self.suite.resources.workers} worker(s) each"
        )
        self._shown = progress = SuiteProgress(tasks, console=self.console)
        with progress:
            environment = self._connect(progress)
            with progress.kept_when_interrupted():
                yield progress
        environment.wait()
        self._copy_environment()

    def _connect(self, progress: Progress) -> Any:
        """Joins or starts Ray, checks that a gang fits, and lets MLflow follow."""
        from harness.runs.environment import write_beside
        from harness.training.checkpoint.storage import check_storage
        from tune.cluster.capacity import check_fits
        from tune.cluster.connection import connect

        if self.suite.checkpoints.storage is not None:
            check_storage(self.suite.checkpoints.storage)
        progress.say("starting Ray")
        check_fits(self.suite.resources, connect(self.address))
        folders = [self.folder.task(name) for name in self.prepared.names]
        self._mlflow = LiveWriter(*folders, tracking_uri=self.tracking_uri)
        if self.address is not None:
            progress.say("asking every node, and bringing it the data")
        once, told = set(), Once(self.console, set())
        for task in self.suite.tasks:
            dataset = self.prepared.datasets[task.name]
            if dataset.path not in once:
                once.add(dataset.path)
                look_at_nodes(task.study, dataset, told)
        progress.say("Ray is there, starting the first workers")
        return write_beside(self.folder.path / "environment.json")

    def _copy_environment(self) -> None:
        """All tasks ran in the same one, and each of their folders tells it."""
        whole = self.folder.path / "environment.json"
        for name in self.prepared.names if whole.exists() else ():
            write_text(self.folder.task(name).environment_path, whole.read_text(encoding="utf-8"))


def _what_is_left(course: Course) -> Iterator[str]:
    if course.error is not None:
        yield f"{course.task} was set aside: {course.error}"
        return
    for key, name in course.open.items():
        yield f"{name}: {course.given_up.get(key, TIME_IS_UP)}"
    if not course.is_over and not course.open:
        yield f"the rest of {course.task}: {TIME_IS_UP}"


def task_names(folder: SuiteFolder) -> tuple[str, ...]:
    return tuple(task.name for task in load_suite_plan(folder).tasks)


def conclude_suite(folder: SuiteFolder, console: Console, tracking_uri: str | None) -> None:
    """From the files to the analysis, report and MLflow of the suite, and of every task."""
    from harness.analysis.suite.suite_analysis import analyse_suite
    from harness.report.suite.write import write_suite_report
    from harness.report.terminal.suite import render_suite
    from harness.report.write import write_report

    results = analyse_suite(folder)
    answers = True
    for name, study in results.studies.items():
        write_report(study)
        if study.error is not None:
            console.print(Text(f"{name}: {study.error}", style="yellow"), soft_wrap=True)
        else:
            answers = answers and track(study, console, tracking_uri)
    page = write_suite_report(results)
    if answers:
        track_suite(results, console, tracking_uri)
    assert results.analysis is not None, "it has just been made"
    console.print(render_suite(results.analysis))
    console.print(f"Report:    {page}", soft_wrap=True)
    console.print(f"Of a task: {folder.path}/tasks/TASK/report/index.html", soft_wrap=True)
    say_where(console, folder.path.parent, tracking_uri)


def track_suite(results: SuiteResults, console: Console, tracking_uri: str | None) -> None:
    """What all tasks say together, after the tasks themselves are in MLflow."""
    from harness.tracking.suite_runs import SuiteTracker
    from harness.tracking.tracker import TrackingUnavailable

    try:
        SuiteTracker(results.folder, tracking_uri).sync(results)
    except TrackingUnavailable as error:
        left_out(console, str(error))
