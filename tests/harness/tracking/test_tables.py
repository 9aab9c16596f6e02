"""A new run's values in MLflow's tables are what its own `log_batch` writes there."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.study_analysis import analyse_study
from harness.runs.folder import StudyFolder
from harness.tracking import study_runs, tables
from harness.tracking.tracker import Tracker

Write = Callable[..., StudyFolder]
SMALL: dict[str, Any] = {"seeds": (0, 1, 2), "steps": 20, "every": 10}

ROWS = {
    "runs": "SELECT name, status, start_time, lifecycle_stage, "
    "CASE WHEN name LIKE '% seed %' THEN end_time ELSE end_time > 0 END FROM runs t",
    "metrics": "SELECT name, key, value, timestamp, step, is_nan",
    "latest_metrics": "SELECT name, key, value, timestamp, step, is_nan",
    "params": "SELECT name, key, value",
    "tags": "SELECT name, key, CASE WHEN key = 'mlflow.parentRunId' THEN '' ELSE value END",
}


def rows(stored: Any) -> dict[str, list[Any]]:
    """All that MLflow knows of runs, without the ids that it draws and the time of the sync."""
    joined = "{} FROM {} t JOIN runs r ON r.run_uuid = t.run_uuid WHERE key NOT LIKE '%study_id'"
    return {
        table: sorted(stored.query(sql if "FROM" in sql else joined.format(sql, table)))
        for table, sql in ROWS.items()
    }


def test_the_tables_hold_what_log_batch_would_write(
    eventful_study: StudyFolder, stored: Any, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    analyse_study(eventful_study)
    calls = []
    monkeypatch.setattr(study_runs, "insert_values", _counted(calls))
    Tracker(eventful_study).sync()
    direct = rows(stored)
    assert len(calls) == len(direct["runs"])
    shutil.copy(empty_store, stored.runs_dir / "mlflow.db")
    (eventful_study.path / "tracking.json").unlink()
    monkeypatch.setattr(study_runs, "database_of", lambda _: None)
    Tracker(eventful_study).sync()
    assert len(calls) == len(direct["runs"]), "this time through requests"
    assert rows(stored) == direct


def _counted(calls: list[str]) -> Callable[..., None]:
    def insert(store: Any, run_id: str, **values: Any) -> None:
        calls.append(run_id)
        tables.insert_values(store, run_id, **values)

    return insert


def test_a_version_with_other_tables_gets_requests(
    made_up_study: Write, stored: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made_up_study(**SMALL)
    other = tables.KNOWN_COLUMNS | {"metrics": {"run_uuid", "key", "value", "number"}}
    monkeypatch.setattr(tables, "KNOWN_COLUMNS", other)
    monkeypatch.setattr(study_runs, "insert_values", None)
    Tracker(folder).sync()
    assert stored.points() == stored.expected(folder)


KILLED_AT = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import Engine, event
from harness.runs.folder import StudyFolder
from harness.tracking.tracker import Tracker

seen = []

@event.listens_for(Engine, "after_cursor_execute")
def killed(connection, cursor, statement, *_):
    if statement.startswith(sys.argv[2]):
        seen.append(statement)
        if len(seen) == 5:
            os.kill(os.getpid(), signal.SIGKILL)

Tracker(StudyFolder(Path(sys.argv[1]))).sync()
"""


@pytest.mark.parametrize("statement", ["INSERT INTO latest_metrics", "UPDATE runs"])
def test_a_kill_in_the_middle_of_a_run_leaves_nothing_of_its_values(
    made_up_study: Write, stored: Any, statement: str
) -> None:
    folder = made_up_study(**SMALL)
    command = [sys.executable, "-c", KILLED_AT, str(folder.path), statement]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    ended = {name for (name,) in stored.query("SELECT name FROM runs WHERE status != 'RUNNING'")}
    held = {point[0] for point in stored.points()}
    assert held <= ended, "the values and the end of a run come together"
    assert len(stored.query("SELECT name FROM runs")) == len(ended) + 1
    Tracker(folder).sync()
    assert stored.points() == stored.expected(folder)
    names = stored.query("SELECT name FROM runs WHERE lifecycle_stage = 'active'")
    assert len(names) == len(set(names)) == 1 + 2 + 6
