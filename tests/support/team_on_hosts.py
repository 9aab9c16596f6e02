"""What a team runs on several hosts: Ray with a token, and MLflow over PostgreSQL with passwords.

Started as docs/how-to/cluster.md says.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from namespace_hosts import Host

RAY = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
SMALL = "--object-store-memory=200000000"
TOKEN = str(Path.home() / ".ray/auth_token")

URI = "http://mlflow:5000"
DATABASE = "postgresql://mlflow@127.0.0.1/mlflow"
POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"))), Path())

AT_MOST_S = 240.0

T = TypeVar("T")


def why_no_postgres() -> str | None:
    """What this machine lacks for PostgreSQL; None: nothing."""
    if shutil.which("postgres") or (POSTGRES / "postgres").exists():
        return None
    return "needs PostgreSQL's server (Debian: apt install postgresql)"


def until(found: Callable[[], T], what: str, at_most_s: float = AT_MOST_S) -> T:
    """Waits for a true value."""
    begun = time.monotonic()
    while not (value := found()):
        assert time.monotonic() - begun < at_most_s, f"waited {at_most_s:.0f} s for: {what}"
        time.sleep(0.1)
    return value


def start_head(head: Host) -> None:
    """It trains nothing itself."""
    head.run("ray", "get-auth-token", "--generate", **RAY)
    head.run("ray", "start", "--head", "--port=6379", "--num-cpus=0", SMALL, **RAY)


def start_worker(head: Host, worker: Host, output: Path) -> None:
    """One CPU; whenever its Ray ends, it is started again, as systemd would."""
    worker.write(TOKEN, head.path(TOKEN).read_text())
    again = f"ray start --address=head:6379 --num-cpus=1 {SMALL} --block; sleep 1"
    worker.start("sh", "-c", f"while :; do {again}; done", output=output, **RAY)


class Mlflow:
    """A tracking server that asks for a password, over a database that asks for another one."""

    def __init__(self, host: Host, outputs: Path) -> None:
        self.host, self.outputs = host, outputs
        self.admin, self.team, self.database = (secrets.token_urlsafe(16) for _ in range(3))
        self.credentials = {
            "MLFLOW_TRACKING_USERNAME": "team",
            "MLFLOW_TRACKING_PASSWORD": self.team,
        }

    def start(self) -> None:
        """Returns once both answer and the user `team` is there."""
        self._start_postgres()
        self.host.write(
            "/tmp/basic_auth.ini",
            f"[mlflow]\ndatabase_uri = {DATABASE}\nadmin_username = admin\n"
            "default_permission = READ\n",
        )
        words = ["mlflow", "server", "--app-name=basic-auth", "--host=0.0.0.0", "--workers=1"]
        words += [f"--backend-store-uri={DATABASE}", "--artifacts-destination=/tmp/artifacts"]
        self.host.start(
            *words,
            "--allowed-hosts=mlflow:5000",
            output=self.outputs / "mlflow.txt",
            PGPASSWORD=self.database,
            MLFLOW_AUTH_CONFIG_PATH="/tmp/basic_auth.ini",
            MLFLOW_AUTH_ADMIN_PASSWORD=self.admin,
            MLFLOW_FLASK_SERVER_SECRET_KEY=secrets.token_urlsafe(16),
            MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
            MLFLOW_DISABLE_TELEMETRY="true",
        )
        listening = "with __import__('socket').create_connection(('mlflow', 5000)): pass"
        until(lambda: self._succeeds("python", "-c", listening), "MLflow listens")
        as_admin = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": self.admin}
        create = (
            "from mlflow.server import get_app_client as client; "
            f"client('basic-auth', tracking_uri='{URI}').create_user('team', '{self.team}')"
        )
        self.host.run("python", "-c", create, **as_admin)

    def _start_postgres(self) -> None:
        nobody = pwd.getpwnam("nobody")  # it refuses to run as root
        as_nobody = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}"]
        as_nobody += ["--clear-groups", "env", f"PATH={POSTGRES}:{os.environ['PATH']}"]
        self.host.write("/tmp/password", self.database)
        self.host.run("install", "-d", "-o", "nobody", "/tmp/postgres")
        options = ["--auth=scram-sha-256", "--username=mlflow", "--pwfile=/tmp/password", "-N"]
        self.host.run(*as_nobody, "initdb", "--pgdata=/tmp/postgres", *options)
        serve = ["postgres", "-D", "/tmp/postgres", "-k", "/tmp", "-c", "fsync=off"]
        self.host.start(*as_nobody, *serve, output=self.outputs / "postgres.txt")
        until(lambda: self._succeeds("psql", *self._database("postgres")), "PostgreSQL listens")
        self.sql("CREATE DATABASE mlflow", database="postgres")

    def _database(self, name: str) -> list[str]:
        return ["--host=127.0.0.1", "--username=mlflow", f"--dbname={name}", "--command=SELECT 1"]

    def _succeeds(self, *words: str) -> bool:
        command = self.host.command(*words, PGPASSWORD=self.database)
        return subprocess.run(command, capture_output=True).returncode == 0

    def sql(self, query: str, database: str = "mlflow") -> list[tuple[str, ...]]:
        """What PostgreSQL itself has, whoever wrote it."""
        words = [*self._database(database)[:-1], "-AtF", "\t", "--command", query]
        printed = self.host.run("psql", *words, PGPASSWORD=self.database)
        return [tuple(line.split("\t")) for line in printed.splitlines()]
