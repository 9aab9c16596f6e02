"""Whether MLflow can be written as a study writes it: tried out, and taken back."""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from harness.tracking.address import without_password
from harness.tracking.mlflow_store import open_client
from harness.tracking.tracker import TrackingUnavailable, failures, reason

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "optbench doctor"
"""Deleted again after every probe, and then hidden in the UI; `mlflow gc` removes it for good."""

METRIC = "written"
AT_MOST_S = 60.0
"""About ten requests of up to 5 s, each tried twice by MLflow; the first that fails ends it."""

CONNECT_S = 5.0
DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
TOO_MANY = " error responses"
"""`too many 503 error responses`: all that MLflow's client tells of what it has tried again."""

LOCKED_S = 5.0
"""So long may another process hold the file of a database."""


def probe(tracking_uri: str, *, at_most_s: float = AT_MOST_S) -> str:
    """Writes a run with a metric, and to a server a file, reads both, and deletes them.

    In an experiment of its own: whoever may not change that of somebody else may still run a study.

    Args:
        at_most_s: in all; afterwards it is left alone, in a thread that ends with the process.

    Returns:
        what was found, in words and without a password.

    Raises:
        TrackingUnavailable: where and why it cannot be reached or written, and what to do.
    """
    answers: list[str | BaseException] = []
    thread = threading.Thread(target=lambda: answers.append(_answer(tracking_uri)), daemon=True)
    thread.start()
    thread.join(at_most_s)
    answer = answers[0] if answers else TimeoutError(f"it took longer than {at_most_s:g} s")
    if isinstance(answer, str):
        return answer
    if not isinstance(answer, failures()):
        raise answer
    why = without_password(f"{tracking_uri}: {reason(answer)}", tracking_uri)
    raise TrackingUnavailable(why) from answer


def _answer(tracking_uri: str) -> str | BaseException:
    try:
        with _quiet():
            return _written(tracking_uri)
    except BaseException as error:
        return error


def _written(tracking_uri: str) -> str:
    _knock(tracking_uri)
    client = open_client(tracking_uri)
    try:
        with _experiment(client, tracking_uri) as experiment_id, _run(client, experiment_id) as run:
            client.log_metric(run, METRIC, 1.0)
            stored = client.get_run(run)
            if stored.data.metrics.get(METRIC) != 1.0:
                raise OSError("what was written is not there when it is read")
            if is_server(tracking_uri):
                _exchange_file(client, run, str(stored.info.artifact_uri), tracking_uri)
    except failures() as error:
        raise _cause(error, tracking_uri) from error
    what = "a metric and a file" if is_server(tracking_uri) else "a metric"
    return f"{without_password(tracking_uri)}: {what} written, read and deleted"


def _knock(tracking_uri: str) -> None:
    """MLflow would wait for a database that is not there for more than a minute."""
    parts = urlsplit(tracking_uri)
    port = DATABASE_PORTS.get(parts.scheme.partition("+")[0])
    if port is not None and parts.hostname:
        socket.create_connection((parts.hostname, parts.port or port), timeout=CONNECT_S).close()


def _cause(error: Exception, tracking_uri: str) -> Exception:
    """What the server itself says, asked once more: MLflow's client does not tell it."""
    if TOO_MANY not in str(error):
        return error
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request_safe

    try:
        http_request_safe(
            get_default_host_creds(tracking_uri),
            "/api/2.0/mlflow/experiments/create",
            "POST",
            json={"name": EXPERIMENT},
            max_retries=0,
            raise_on_status=False,
        )
    except failures() as told:
        return told
    return error


@contextmanager
def _quiet() -> Iterator[None]:
    """MLflow logs an error and its whole stack before it raises it."""
    disabled = [logging.getLogger(n) for n in ("mlflow.store.db.utils", "mlflow.utils.rest_utils")]
    before = [each.disabled for each in disabled]
    for each in disabled:
        each.disabled = True
    try:
        yield
    finally:
        for each, value in zip(disabled, before, strict=True):
            each.disabled = value


def probe_file(path: Path) -> str:
    """Of the store in a runs folder: whether it can be written. Nothing is, and MLflow stays out.

    Raises:
        TrackingUnavailable: it cannot, and why.
    """
    if not path.exists():
        return f"{path}: the first run makes it"
    try:
        # A transaction that may write takes the lock of the file and writes its journal.
        with closing(
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", LOCKED_S, uri=True)
        ) as db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("SELECT count(*) FROM sqlite_master").fetchall()
            db.rollback()
    except sqlite3.Error as error:
        raise TrackingUnavailable(f"{path}: {reason(error)}") from error
    return f"{path}: it can be written"


def is_server(tracking_uri: str) -> bool:
    """Then artifacts go where the server says; else below the folder in which a study runs."""
    return tracking_uri.startswith(("http://", "https://"))


@contextmanager
def _experiment(client: MlflowClient, tracking_uri: str) -> Iterator[str]:
    """Made or restored, and deleted afterwards; one for each user, who may change their own."""
    user = os.environ.get("MLFLOW_TRACKING_USERNAME") or urlsplit(tracking_uri).username
    name = f"{EXPERIMENT} ({user})" if user and is_server(tracking_uri) else EXPERIMENT
    found = client.get_experiment_by_name(name)
    if found is None:
        experiment_id = str(client.create_experiment(name))
    else:
        experiment_id = str(found.experiment_id)
        if found.lifecycle_stage != "active":
            client.restore_experiment(experiment_id)
    try:
        yield experiment_id
    finally:
        client.delete_experiment(experiment_id)


@contextmanager
def _run(client: MlflowClient, experiment_id: str) -> Iterator[str]:
    started = round(1000 * time.time())
    run_id = str(client.create_run(experiment_id, start_time=started).info.run_id)
    try:
        yield run_id
    finally:
        client.delete_run(run_id)


def _exchange_file(client: MlflowClient, run_id: str, artifact_uri: str, tracking_uri: str) -> None:
    """A report goes the same way: through the server, or from here into its object store."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with TemporaryDirectory() as folder:
        file = Path(folder) / "probe.txt"
        file.write_text("written by `optbench doctor`\n")
        client.log_artifact(run_id, str(file))
    names = [item.path for item in client.list_artifacts(run_id)]
    if names != [file.name]:
        raise OSError(f"a file was sent there, and {names or 'nothing'} is found")
    with suppress(NotImplementedError):  # some stores can only grow
        get_artifact_repository(artifact_uri, tracking_uri=tracking_uri).delete_artifacts(file.name)
