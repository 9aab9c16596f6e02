"""A store that is read with SQL: what MLflow holds, whoever wrote it."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.study_results import load_results
from harness.runs.folder import StudyFolder
from harness.tracking import mlflow_store as store
from harness.tracking.run_records import records

Point = tuple[str, str, int, float]


@dataclass(frozen=True)
class Stored:
    """The runs folder in which `made_up_study` writes, and the database beside the study."""

    runs_dir: Path

    def query(self, sql: str) -> list[Any]:
        with closing(sqlite3.connect(self.runs_dir / "mlflow.db")) as connection:
            return connection.execute(sql).fetchall()

    def points(self) -> list[Point]:
        """Every stored point of every run that was not deleted: run, metric, step, value."""
        return sorted(
            self.query(
                "SELECT r.name, m.key, m.step, m.value FROM metrics m JOIN runs r "
                "ON r.run_uuid = m.run_uuid WHERE r.lifecycle_stage = 'active'",
            )
        )

    def tags(self, name: str) -> dict[str, str]:
        return dict(
            self.query(
                "SELECT t.key, t.value FROM tags t JOIN runs r ON r.run_uuid = t.run_uuid "
                f"WHERE r.lifecycle_stage = 'active' AND r.name = '{name}'",
            )
        )

    @staticmethod
    def expected(folder: StudyFolder) -> list[Point]:
        return sorted(
            (record.name, key, step, value)
            for record in records(load_results(folder))
            for group in record.groups
            for key, value, step in group.values
        )

    @staticmethod
    def of_trials(found: list[Point]) -> list[Point]:
        """Without the summaries, which have one point for each state of the study."""
        return [point for point in found if " seed " in point[0]]


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with its tables: creating them takes seconds, copying the file does not."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    store.open_client(f"sqlite:///{path}")
    return path


@pytest.fixture
def stored(tmp_path: Path, empty_store: Path) -> Stored:
    path = tmp_path / "runs"
    path.mkdir(exist_ok=True)
    shutil.copy(empty_store, path / "mlflow.db")
    return Stored(path)
