"""MLflow's store, and writing so that writing again changes nothing."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness.tracking.metrics import MetricGroup
from harness.tracking.run_records import RunRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# MLflow's own limits of one request (mlflow.utils.validation).
METRICS_PER_BATCH, PARAMS_PER_BATCH, TAGS_PER_BATCH = 1000, 100, 100
MAX_PARAM_LENGTH, MAX_TAG_LENGTH = 6000, 8000
RUNS_PER_PAGE = 1000

STUDY_ID, ROLE, CONTENT, ARTIFACTS = (
    "optbench.study_id",
    "optbench.role",
    "optbench.content_sha256",
    "optbench.artifacts_sha256",
)
PARENT = "mlflow.parentRunId"
OPTIONAL_TAGS = ("reason", "diverged", "initial_sha256", "batches_sha256", "test")
"""Tags that a later state of the files may no longer have."""

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # The files hold everything, so a server that is down is not waited for: one more attempt
    # instead of seven, and seconds instead of two minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
}

T = TypeVar("T")


def prepare_environment() -> None:
    """Settings that MLflow reads from the environment; what the user has set stays."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def open_client(tracking_uri: str) -> MlflowClient:
    """Imports MLflow (over two seconds) and creates the schema of a new SQLite store."""
    prepare_environment()
    with warnings.catch_warnings():
        # MLflow's own use of SQLAlchemy, which nobody here can change.
        warnings.simplefilter("ignore", DeprecationWarning)
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic"):
            # Creating a store would be announced with a page of migrations.
            logging.getLogger(name).setLevel(logging.WARNING)
        _make_whole(tracking_uri, MlflowClient)
        return MlflowClient(tracking_uri=tracking_uri)


def _make_whole(tracking_uri: str, client: type[MlflowClient]) -> None:
    """Makes a new SQLite store beside its place and moves it there when it has all its tables.

    A process that is killed while MLflow makes them would leave a file that nothing can open.
    """
    if not tracking_uri.startswith("sqlite:///"):
        return
    path = Path(tracking_uri.removeprefix("sqlite:///"))
    if path.exists() or not path.parent.is_dir():
        return
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".mlflow-") as folder:
        new = Path(folder) / path.name
        client(tracking_uri=f"sqlite:///{new}").search_experiments(max_results=1)
        with suppress(FileExistsError):  # another process was faster
            os.link(new, path)


@dataclass
class StoredRun:
    """What MLflow holds of a run, as it was read, or written since."""

    run_id: str
    start_time: int  # milliseconds since 1970
    status: str
    metrics: dict[str, float]  # the latest value of each
    params: set[str]
    tags: dict[str, str]

    @staticmethod
    def of(run: Run) -> StoredRun:
        return StoredRun(
            run_id=run.info.run_id,
            start_time=run.info.start_time,
            status=run.info.status,
            metrics=dict(run.data.metrics),
            params=set(run.data.params),
            tags=dict(run.data.tags),
        )


@dataclass
class Sent:
    """What was not there before."""

    runs: int = 0
    points: int = 0


class StudyRuns:
    """The runs of one study in MLflow, read once, then brought to agree with the records.

    After a request that failed it is not known what MLflow holds: read it anew, in a new object.
    """

    def __init__(self, client: MlflowClient, experiment_id: str, study_id: str) -> None:
        self.client, self.experiment_id, self.study_id = client, experiment_id, study_id
        self.sent = Sent()
        self.runs: dict[str, StoredRun] = {}
        for run in map(StoredRun.of, self._existing()):
            if run.tags[ROLE] in self.runs:
                # A request that was answered too late and sent again.
                client.delete_run(run.run_id)
            else:
                self.runs[run.tags[ROLE]] = run

    def _existing(self) -> Iterator[Run]:
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id],
                filter_string=f"tags.`{STUDY_ID}` = '{self.study_id}'",
                max_results=RUNS_PER_PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            yield from page
            token = page.token
            if not token:
                return

    def write(self, record: RunRecord, *, started: float | None) -> None:
        """Brings one run to agree with its record; each (metric, step) is written once.

        Args:
            started: when the run began, in seconds since 1970; used if it is new.
        """
        run = self.runs.get(record.role)
        if run is not None and self._is_of_another_attempt(run, record):
            self.client.delete_run(run.run_id)
            run = None
        if run is None:
            run = self.runs[record.role] = self._create(record, started)
        self._write_values(run, record)
        self._write_status(run, record)

    @staticmethod
    def _is_of_another_attempt(run: StoredRun, record: RunRecord) -> bool:
        """A trial that began anew, or a summary of the same trials with other results."""
        written = run.metrics.get(record.marker)
        if written is None:
            return False
        if not record.groups:
            return True
        if run.tags.get(CONTENT) == record.content:
            # The same course; points beyond the file's last are those of steps trained again.
            return False
        return record.marker == "step" or written >= record.marker_of(record.groups[-1])

    def _create(self, record: RunRecord, started: float | None) -> StoredRun:
        milliseconds = round(1000 * (time.time() if started is None else started))
        tags = self._tags(record) | {
            STUDY_ID: self.study_id,
            ROLE: record.role,
            "mlflow.source.name": "optbench",
            "mlflow.user": "optbench",
        }
        run = self.client.create_run(
            self.experiment_id, start_time=milliseconds, tags=tags, run_name=record.name
        )
        self.sent.runs += 1
        return StoredRun.of(run)

    def _tags(self, record: RunRecord) -> dict[str, str]:
        tags = record.tags | {CONTENT: record.content}
        if record.parent is not None:
            tags[PARENT] = self.runs[record.parent].run_id
        return {key: value[:MAX_TAG_LENGTH] for key, value in tags.items()}

    def _write_values(self, run: StoredRun, record: RunRecord) -> None:
        """Params, metrics and tags that are not there yet, in as few requests as possible."""
        from mlflow.entities import Param, RunTag

        tags = self._tags(record)
        groups = _missing(run, record)
        params = [
            Param(key, value[:MAX_PARAM_LENGTH])
            for key, value in record.params.items()
            if key not in run.params
        ]
        changed = [RunTag(k, value) for k, value in tags.items() if run.tags.get(k) != value]
        for metrics, some_params, some_tags in zip_longest(
            (_metrics(batch, run.start_time) for batch in _batches(groups)),
            _slices(params, PARAMS_PER_BATCH),
            _slices(changed, TAGS_PER_BATCH),
            fillvalue=(),
        ):
            self.client.log_batch(run.run_id, metrics, some_params, some_tags)
            self.sent.points += len(metrics)
        run.metrics |= {key: value for group in groups for key, value, _ in group.values}
        run.params |= record.params.keys()
        for key in OPTIONAL_TAGS:
            if key in run.tags and key not in tags:
                self.client.delete_tag(run.run_id, key)
                del run.tags[key]
        run.tags |= tags

    def _write_status(self, run: StoredRun, record: RunRecord) -> None:
        if run.status == record.status:
            return
        if record.status == "RUNNING":
            self.client.update_run(run.run_id, status=record.status)
        else:
            ended = None
            if record.duration_s is not None:
                ended = run.start_time + round(1000 * record.duration_s)
            self.client.set_terminated(run.run_id, status=record.status, end_time=ended)
        run.status = record.status

    def write_artifacts(self, role: str, files: Sequence[Path]) -> None:
        """Uploads the files if one of them changed since the last time."""
        run = self.runs[role]
        digest = hashlib.sha256()
        for path in files:
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        if run.tags.get(ARTIFACTS) == digest.hexdigest():
            return
        for path in files:
            self.client.log_artifact(run.run_id, str(path))
        self.client.set_tag(run.run_id, ARTIFACTS, digest.hexdigest())


def _missing(run: StoredRun, record: RunRecord) -> list[MetricGroup]:
    """The groups that the run does not hold, by the latest value of the record's marker.

    The last report of a trial may be there from before the trial ended; then its final loss is not.
    """
    written = run.metrics.get(record.marker, -1.0)
    groups = [group for group in record.groups if record.marker_of(group) > written]
    if groups or not record.groups or record.marker_of(record.groups[-1]) < written:
        return groups
    last = record.groups[-1]
    late = tuple(value for value in last.values if value[0] not in run.metrics)
    return [replace(last, values=late)] if late else []


def _metrics(groups: Sequence[MetricGroup], start_time: int) -> list[Any]:
    from mlflow.entities import Metric

    return [
        Metric(key, value, start_time + round(1000 * group.elapsed_s), step)
        for group in groups
        for key, value, step in group.values
    ]


def _batches(groups: Sequence[MetricGroup]) -> Iterator[list[MetricGroup]]:
    """As many whole groups as fit into one request: the store keeps all of it or nothing."""
    batch: list[MetricGroup] = []
    for group in groups:
        assert len(group.values) <= METRICS_PER_BATCH, "one report is too large for one request"
        if sum(len(held.values) for held in batch) + len(group.values) > METRICS_PER_BATCH:
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch


def _slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[begin : begin + size] for begin in range(0, len(items), size))
