"""The runs of a study in MLflow, written so that writing again changes nothing."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from harness.tracking.batches import batches, missing_groups
from harness.tracking.metrics import MetricGroup
from harness.tracking.run_records import RunRecord
from harness.tracking.side_by_side import for_each
from harness.tracking.tables import database_of, insert_values

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

# MLflow's own limits (mlflow.utils.validation).
MAX_PARAM_LENGTH, MAX_TAG_LENGTH = 6000, 8000
RUNS_PER_PAGE = 1000

REQUESTS_AT_A_TIME = 4
"""As many as a server of MLflow has workers, unless it was told otherwise."""

STUDY_ID, ROLE, CONTENT, ARTIFACTS = (
    "optbench.study_id",
    "optbench.role",
    "optbench.content_sha256",
    "optbench.artifacts_sha256",
)
PARENT = "mlflow.parentRunId"
OPTIONAL_TAGS = ("reason", "diverged", "initial_sha256", "batches_sha256", "test")
"""Tags that a later state of the files may no longer have."""


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
        self._counting = threading.Lock()
        self._database = database_of(client)
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

    def write_all(
        self,
        records: Iterable[RunRecord],
        *,
        started: Callable[[RunRecord], float | None],
        written: Callable[[RunRecord], object] = lambda _: None,
        stop: threading.Event | None = None,
    ) -> None:
        """Parents one after the other, as their children name them; trials side by side.

        One after the other too where this process writes into SQLite, which has one writer.

        Args:
            written: told each record when MLflow has it, from any thread.
            stop: set by another thread: no further run is begun.
        """

        def write(record: RunRecord) -> None:
            self.write(record, started=started(record))
            written(record)

        in_sqlite = self._database is not None and self._database.db_type == "sqlite"
        at_a_time = 1 if in_sqlite else REQUESTS_AT_A_TIME
        for of_trials, some in groupby(records, lambda record: record.key is not None):
            threads = at_a_time if of_trials else 1
            for_each(some, write, threads=threads, stop=stop or threading.Event())

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
            if self._database is not None:
                self._insert(self._database, run, record)
        self._write_values(run, record)
        self.write_status(record)

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
        self._count(runs=1)
        return StoredRun.of(run)

    def _tags(self, record: RunRecord) -> dict[str, str]:
        tags = record.tags | {CONTENT: record.content}
        if record.parent is not None:
            tags[PARENT] = self.runs[record.parent].run_id
        return {key: value[:MAX_TAG_LENGTH] for key, value in tags.items()}

    def _insert(self, database: SqlAlchemyStore, run: StoredRun, record: RunRecord) -> None:
        """All values of a run that is new, and its end."""
        metrics = _metrics(record.groups, run.start_time)
        insert_values(
            database,
            run.run_id,
            metrics=metrics,
            params=_params(record),
            status=record.status,
            end_time=_end_time(run, record),
        )
        run.status = record.status
        self._holds(run, record, record.groups)
        self._count(points=len(metrics))

    def _write_values(self, run: StoredRun, record: RunRecord) -> None:
        """Params, metrics and tags that are not there yet, in as few requests as possible."""
        from mlflow.entities import Param, RunTag

        tags = self._tags(record)
        groups = missing_groups(run.metrics, record)
        params = {key: value for key, value in _params(record).items() if key not in run.params}
        changed = {key: value for key, value in tags.items() if run.tags.get(key) != value}
        for batch in batches(groups, params, changed):
            metrics = _metrics(batch.groups, run.start_time)
            self.client.log_batch(
                run.run_id,
                metrics,
                [Param(key, value) for key, value in batch.params.items()],
                [RunTag(key, value) for key, value in batch.tags.items()],
            )
            self._count(points=len(metrics))
        self._holds(run, record, groups)
        for key in OPTIONAL_TAGS:
            if key in run.tags and key not in tags:
                self.client.delete_tag(run.run_id, key)
                del run.tags[key]
        run.tags |= tags

    @staticmethod
    def _holds(run: StoredRun, record: RunRecord, groups: Sequence[MetricGroup]) -> None:
        run.metrics |= {key: value for group in groups for key, value, _ in group.values}
        run.params |= record.params.keys()

    def _count(self, *, runs: int = 0, points: int = 0) -> None:
        with self._counting:
            self.sent.runs += runs
            self.sent.points += points

    def write_status(self, record: RunRecord) -> None:
        """Of a run that is there."""
        run = self.runs[record.role]
        if run.status == record.status:
            return
        if record.status == "RUNNING":
            self.client.update_run(run.run_id, status=record.status)
        else:
            ended = _end_time(run, record)
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


def _end_time(run: StoredRun, record: RunRecord) -> int | None:
    if record.status == "RUNNING":
        return None
    if record.duration_s is None:
        return round(1000 * time.time())
    return run.start_time + round(1000 * record.duration_s)


def _params(record: RunRecord) -> dict[str, str]:
    return {key: value[:MAX_PARAM_LENGTH] for key, value in record.params.items()}


def _metrics(groups: Sequence[MetricGroup], start_time: int) -> list[Metric]:
    from mlflow.entities import Metric

    return [
        Metric(key, value, start_time + round(1000 * group.elapsed_s), step)
        for group in groups
        for key, value, step in group.values
    ]
