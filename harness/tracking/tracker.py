"""MLflow, fed from a study's files: one writer, at any time, again and again.

The files are the truth. Nothing here is needed to run, resume or analyse a study, and a tracking
server that is down costs a study seconds and no result.
"""

from __future__ import annotations

import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout
from pydantic import Field, TypeAdapter

from harness.analysis.study_results import StudyResults, load_results
from harness.errors import UserError
from harness.runs.files import write_json
from harness.runs.folder import StudyFolder
from harness.runs.reading import exists, read_record
from harness.study.record import Record
from harness.tracking.address import without_password
from harness.tracking.run_records import STUDY_ROLE, RunRecord, note, records
from harness.tracking.ui_views import addresses, view_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

    from harness.tracking.study_runs import Sent, StudyRuns

QUIET_S = 60.0
"""After a failure the server is left alone for so long, so that it cannot hold up a study."""

SYNC_S = 120.0
"""So long may MLflow take in all at the end of a run. Most of it is there by then; what did not fit
is sent by `optbench sync`, which goes on where this stopped."""

OTHER_WRITER_S = 10.0
"""So long may another process still write the same study; a run's own one is over before."""

EXPERIMENT_KIND = "custom_model_development"
"""Without this tag the UI takes some experiments for collections of traces."""

NOTE = "mlflow.note.content"


class _Identity(Record):
    """tracking.json."""

    study_id: str = Field(pattern="^[0-9a-f]{32}$")


_IDENTITY = TypeAdapter(_Identity)


class TrackingUnavailable(Exception):
    """MLflow could not be written; the study's files are complete without it."""


class Tracker:
    """Makes MLflow agree with a study's folder.

    Args:
        tracking_uri: a server or a database; None for `mlflow.db` in the runs folder, with its
            artifacts in `mlartifacts` beside it.
    """

    def __init__(self, folder: StudyFolder, tracking_uri: str | None = None) -> None:
        self.folder, self.given_uri = folder, tracking_uri
        self._client: MlflowClient | None = None
        self._quiet_until, self._last_failure = 0.0, ""

    @property
    def tracking_uri(self) -> str:
        return self.given_uri or f"sqlite:///{self.folder.runs_dir / 'mlflow.db'}"

    def sync(self, results: StudyResults | None = None, *, at_most_s: float = SYNC_S) -> Sent:
        """Writes what is missing. Nothing is written twice, whatever was interrupted before.

        Args:
            results: of the folder, as they were just analysed; None: they are read from its files.
            at_most_s: in all, however many requests it takes and however slow each of them is.

        Raises:
            TrackingUnavailable: MLflow could not be reached or written. For the next minute every
                call says so at once, without asking again.
            UserError: the folder holds no study, or a file of it is damaged.
        """
        self.check_quiet()
        study = load_results(self.folder) if results is None else results
        return self.guarded(lambda stop: self._sync(study, stop), at_most_s=at_most_s)

    def check_quiet(self) -> None:
        """
        Raises:
            TrackingUnavailable: MLflow failed less than a minute ago.
        """
        if time.monotonic() < self._quiet_until:
            raise TrackingUnavailable(self._last_failure)

    def guarded(self, work: Callable[[threading.Event], Sent], *, at_most_s: float) -> Sent:
        """Does the work; whatever MLflow raises is a TrackingUnavailable, and it is left alone."""
        try:
            return _within(at_most_s, work)
        except UserError:
            raise
        except failures() as error:
            self._client = None
            self._quiet_until = time.monotonic() + QUIET_S
            self._last_failure = self.failure(error)
            raise TrackingUnavailable(self._last_failure) from error

    def failure(self, error: Exception) -> str:
        """Where and why, in one line and without a password."""
        if isinstance(error, UserError):
            return str(error)  # a file of the study, and not MLflow
        return without_password(f"{self.tracking_uri}: {reason(error)}", self.given_uri)

    def _sync(self, study: StudyResults, stop: threading.Event) -> Sent:
        with writing_alone(self.folder, OTHER_WRITER_S):
            runs = self.connect(study, describe=True)
            runs.write_all(
                records(study), started=lambda record: started(study.folder, record), stop=stop
            )
            runs.write_artifacts(STUDY_ROLE, _artifacts(study.folder))
        return runs.sent

    def connect(self, study: StudyResults, *, describe: bool) -> StudyRuns:
        """Reads what MLflow holds of the study.

        Args:
            describe: bring the description and the views of the experiment up to date; otherwise
                they are written only where there are none.
        """

        def tags(client: MlflowClient, experiment_id: str) -> dict[str, str]:
            return {NOTE: note(study, links=addresses(experiment_id)), **view_tags()}

        return self.open_runs(study.name, tags, describe=describe)

    def open_runs(
        self,
        name: str,
        tags: Callable[[MlflowClient, str], Mapping[str, str]],
        *,
        describe: bool,
    ) -> StudyRuns:
        """The runs of this folder in the experiment `name`, which is made if there is none.

        Args:
            tags: the description and the views of the experiment, given its id.
            describe: as in `connect`.
        """
        from harness.tracking.mlflow_store import open_client
        from harness.tracking.study_runs import StudyRuns

        if self._client is None:
            with self._creating_alone():
                self._client = open_client(self.tracking_uri)
        experiment = self._experiment(self._client, name)
        experiment_id = str(experiment.experiment_id)
        if describe or NOTE not in experiment.tags:
            _describe(self._client, experiment, tags(self._client, experiment_id))
        return StudyRuns(self._client, experiment_id, self._study_id())

    @contextmanager
    def _creating_alone(self) -> Iterator[None]:
        """Two runs that begin at the same time would both create the tables of a new store."""
        runs_dir = self.folder.runs_dir
        alone = FileLock(runs_dir / ".mlflow.lock") if self.given_uri is None else nullcontext()
        with alone:
            yield

    def _experiment(self, client: MlflowClient, name: str) -> Experiment:
        found = client.get_experiment_by_name(name)
        if found is None:
            # A server decides itself where artifacts go.
            location = (self.folder.runs_dir / "mlartifacts" / name).as_uri()
            created = client.create_experiment(
                name, artifact_location=None if self.given_uri else location
            )
            found = client.get_experiment(created)
        if found.lifecycle_stage != "active":
            raise OSError(
                f"the experiment {name!r} was deleted in MLflow: restore it with `mlflow "
                f"experiments restore -x {found.experiment_id}`, or remove it for good with "
                "`mlflow gc`"
            )
        return found

    def _study_id(self) -> str:
        """Tells this folder's runs from those of another folder with the same study."""
        path = self.folder.path / "tracking.json"
        if not exists(path):
            write_json(path, {"study_id": uuid.uuid4().hex})
        return read_record(path, _IDENTITY, "delete it: MLflow then gets new runs").study_id


def _describe(client: MlflowClient, experiment: Experiment, tags: Mapping[str, str]) -> None:
    for key, value in {"mlflow.experimentKind": EXPERIMENT_KIND, **tags}.items():
        if experiment.tags.get(key) != value:
            client.set_experiment_tag(str(experiment.experiment_id), key, value)


@contextmanager
def writing_alone(folder: StudyFolder, at_most_s: float) -> Iterator[None]:
    """Holds the study's place in MLflow for one process: two would each create what is missing."""
    lock = FileLock(folder.path / ".tracking.lock")
    try:
        lock.acquire(timeout=at_most_s)
    except Timeout:
        raise OSError("another process is writing this study") from None
    try:
        yield
    finally:
        lock.release()


def _within(at_most_s: float, work: Callable[[threading.Event], Sent]) -> Sent:
    """Does it in a thread, which ends after its request when the time is over, or after Ctrl-C.

    A limit for each request would not do: a slow server may take it for every one of thousands.
    """
    answers: list[Sent] = []
    errors: list[BaseException] = []
    stop = threading.Event()

    def run() -> None:
        try:
            answers.append(work(stop))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        thread.join(at_most_s)
    finally:
        stop.set()
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError(f"it took longer than {at_most_s:g} s")
    return answers[0]


def started(folder: StudyFolder, record: RunRecord) -> float | None:
    """When the run began, as its files tell; the study and its summaries begin with the plan."""
    if record.key is None:
        return folder.plan_path.stat().st_mtime
    spec = folder.trial(record.key).spec_path
    return spec.stat().st_mtime if spec.exists() else None


def _artifacts(folder: StudyFolder) -> list[Path]:
    """The report with its figures, and the small files that say what was asked and answered."""
    names = ("study.toml", "plan.json", "environment.json", "data.json", "analysis.json")
    files = [folder.path / name for name in names]
    if folder.report_folder.exists():
        files += sorted(folder.report_folder.iterdir())
    return [path for path in files if path.is_file() and not path.name.startswith(".")]


def failures() -> tuple[type[Exception], ...]:
    """What MLflow raises where it cannot be reached or written."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    # ImportError: the driver of a database that is not installed. ValueError: not an address.
    return MlflowException, SQLAlchemyError, OSError, ImportError, ValueError


REASONS = {
    "readonly database": "its database can only be read: the file, its folder or its disk is "
    "read-only for whoever writes it",
    "read-only transaction": "its database can only be read (a standby, or a user without rights)",
    "out-of-date database schema": "its database is of another version of MLflow: `mlflow db "
    "upgrade` brings it up to date (make a copy before)",
    "error code 404": "no MLflow server answers at this path: is the address complete?",
    "Connection refused": "nothing answers there (connection refused)",
    "timed out": "no answer in time",
    "Failed to resolve": "there is no host of this name",
    "Invalid Host header": "the server refuses this name of its host (403): start `mlflow server` "
    "with --allowed-hosts and this name, as it stands in the address",
    "error code 401": "it asks for a user and a password (401): set MLFLOW_TRACKING_USERNAME and "
    "MLFLOW_TRACKING_PASSWORD, and look for mistakes in them",
    "error code 403": "this user may not write there (403): ask who runs the server for the "
    "permission to edit the experiment",
    "database is locked": "another program holds the database: try again when it is done",
}
"""What MLflow buries in a line of several hundred characters, and in plain words."""
LONGEST_REASON = 200


def reason(error: Exception) -> str:
    """Why, in one line of plain words."""
    text = str(error).strip()
    for sign, words in REASONS.items():
        if sign in text:
            return words
    return (text.splitlines() or [type(error).__name__])[0][:LONGEST_REASON]


def ui_command(runs_dir: Path, *, port: int = 5000) -> list[str]:
    """The command of an MLflow server on 127.0.0.1 over the store in `runs_dir`.

    The environment of this process, which the server inherits, is set to no telemetry and no jobs.
    """
    from harness.tracking.mlflow_store import prepare_environment

    prepare_environment()
    runs = Path(runs_dir).resolve()
    return [
        sys.executable,
        *("-m", "mlflow", "server"),
        *("--backend-store-uri", f"sqlite:///{runs / 'mlflow.db'}"),
        *("--default-artifact-root", (runs / "mlartifacts").as_uri()),
        *("--host", "127.0.0.1"),
        *("--port", str(port)),
        *("--workers", "1"),
    ]
