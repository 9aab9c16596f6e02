"""A real `mlflow server`, which can be killed, stopped and started again."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any


class MlflowServer:
    """On a free port of 127.0.0.1 over a SQLite store in `folder`; not started yet."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.database = folder, folder / "mlflow.db"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> MlflowServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Returns once it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self.database}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            )
        deadline = time.monotonic() + 120
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=1) as answer:
                return int(answer.status) == 200
        except OSError:
            return False

    def _signal(self, number: int) -> None:
        assert self.process is not None, "it was never started"
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """With all its workers."""
        if self.process is not None:
            self._signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def stand_still(self) -> None:
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def query(self, sql: str) -> list[Any]:
        """Of the store, with SQL: it tells what is there, whoever wrote it."""
        with closing(sqlite3.connect(self.database, timeout=30)) as connection:
            return connection.execute(sql).fetchall()

    def points(self) -> list[tuple[str, str, int, float]]:
        """Of every run that was not deleted: run, metric, step, value."""
        return sorted(
            self.query(
                "SELECT r.name, m.key, m.step, m.value FROM metrics m JOIN runs r "
                "ON r.run_uuid = m.run_uuid WHERE r.lifecycle_stage = 'active'"
            )
        )
