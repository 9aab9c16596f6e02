"""The probe of `optbench doctor`: real stores and a real server, each written or refused."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from mlflow_server import MlflowServer

from harness.tracking.mlflow_store import open_client
from harness.tracking.probe import EXPERIMENT, probe, probe_file
from harness.tracking.tracker import TrackingUnavailable


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with MlflowServer(tmp_path_factory.mktemp("probe")) as server:
        server.start()
        yield server


def refused(uri: str) -> str:
    with pytest.raises(TrackingUnavailable) as caught:
        probe(uri)
    return str(caught.value)


def test_a_server_that_can_be_written_is_left_as_it_was(server: MlflowServer) -> None:
    def seen() -> list[str]:
        return [e.name for e in open_client(server.uri).search_experiments()]

    before = seen()
    for _ in range(2):
        assert "a metric and a file written, read and deleted" in probe(server.uri)
    assert seen() == before, "nothing of it is seen in the UI"
    names = server.query("SELECT name FROM experiments WHERE lifecycle_stage = 'deleted'")
    assert names == [(EXPERIMENT,)], "however often it is probed"
    assert not server.query("SELECT 1 FROM runs WHERE lifecycle_stage = 'active'")
    assert not [path for path in (server.folder / "artifacts").rglob("*") if path.is_file()]


def test_a_name_that_the_server_does_not_know_is_told_from_a_server_that_is_away(
    server: MlflowServer,
) -> None:
    other_name = server.uri.replace("127.0.0.1", "127.1")  # the same address, spelt otherwise
    assert "--allowed-hosts" in refused(other_name)
    assert "no MLflow server answers at this path" in refused(f"{server.uri}/mlflow")
    assert "connection refused" in refused("http://127.0.0.1:9")


def test_a_database_that_can_only_be_read_is_told(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    assert "a metric written" in probe(f"sqlite:///{database}")
    assert "can only be read" in refused(f"sqlite:///file:{database}?mode=ro&uri=true")


def test_a_database_that_is_away_is_not_waited_for() -> None:
    assert refused("postgresql://ann:secret@127.0.0.1:9/mlflow") == (
        "postgresql://***@127.0.0.1:9/mlflow: nothing answers there (connection refused)"
    )


def test_the_store_of_a_runs_folder_is_only_locked_for_a_moment(tmp_path: Path) -> None:
    store = tmp_path / "mlflow.db"
    assert "the first run makes it" in probe_file(store)
    assert not store.exists()
    with closing(sqlite3.connect(store)) as database:
        database.execute("CREATE TABLE runs (name)")
    before = store.read_bytes()
    assert "can be written" in probe_file(store)
    assert store.read_bytes() == before
    store.write_text("no database " * 100)
    with pytest.raises(TrackingUnavailable, match="not a database"):
        probe_file(store)


@pytest.mark.faults
def test_a_server_whose_database_can_only_be_read_says_so(tmp_path: Path) -> None:
    """It answers 500, which MLflow's client tells as too many errors."""
    with MlflowServer(tmp_path) as writing:
        open_client(f"sqlite:///{writing.database}").search_experiments()
        writing.database = Path(f"file:{writing.database}?mode=ro&uri=true")
        writing.start()
        assert "can only be read" in refused(writing.uri)


def test_a_driver_that_is_missing_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as database:
        port = database.getsockname()[1]
        assert "MySQLdb" in refused(f"mysql://ann@127.0.0.1:{port}/mlflow").replace(
            "mysqlclient", "MySQLdb"
        )
