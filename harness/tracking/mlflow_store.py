"""Opens MLflow's store, with settings under which it holds up nobody."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

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
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}

ORPHANED_AFTER_S = 3600.0
"""Making the tables of a store takes seconds; a folder that old was left by a killed process."""


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
    _remove_orphans(path)
    if path.exists() or not path.parent.is_dir():
        return
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".mlflow-") as folder:
        new = Path(folder) / path.name
        client(tracking_uri=f"sqlite:///{new}").search_experiments(max_results=1)
        with suppress(FileExistsError):  # another process was faster
            os.link(new, path)


def _remove_orphans(path: Path) -> None:
    """Folders beside the store in which a process was making one when it was killed."""
    for folder in path.parent.glob(".mlflow-*"):
        with suppress(OSError):  # another process removes it too, or may and we may not
            if not folder.is_dir() or time.time() - folder.stat().st_mtime < ORPHANED_AFTER_S:
                continue
            if all(file.name.startswith(path.name) for file in folder.iterdir()):
                shutil.rmtree(folder)
