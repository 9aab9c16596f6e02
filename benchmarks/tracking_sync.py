"""What the first sync of a finished study costs, against MLflow's own calls one after another.

    python benchmarks/tracking_sync.py                    # SQLite, and a server over SQLite
    python benchmarks/tracking_sync.py --trials 300       # so many trials, with 30 reports each
    python benchmarks/tracking_sync.py --postgres postgresql://user:password@host/empty_database

The peer creates a run, logs its metrics and params with one `log_batch` (whose limit a trial does
not reach) and ends it, trial after trial. Both write the same trials into the same store, in turns
of ten trials. The PostgreSQL database must be empty; a second server is started over it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
from made_up import MadeUpStudy

from harness.analysis.study_results import load_results
from harness.tracking.mlflow_store import open_client
from harness.tracking.run_records import RunRecord, records
from harness.tracking.study_runs import StudyRuns

if TYPE_CHECKING:
    from mlflow import MlflowClient

REPORTS, TURN = 30, 10
SERVER_WORKERS = 4  # what `mlflow server` takes unless it is told otherwise
START = 1.7e9  # of every run, in seconds since 1970


def trial_records(folder: Path, count: int) -> tuple[list[RunRecord], list[RunRecord]]:
    """The runs of the study and its variants, and those of its trials."""
    seeds = tuple(range((count + 1) // 2))
    study = MadeUpStudy(seeds=seeds, steps=10 * (REPORTS - 1), every=10).write(folder)
    made = list(records(load_results(study)))
    return [r for r in made if r.key is None], [r for r in made if r.key is not None][:count]


def peer(client: MlflowClient, experiment: str, record: RunRecord) -> None:
    from mlflow.entities import Metric, Param

    began = round(1000 * START)
    run = client.create_run(experiment, start_time=began, tags=record.tags, run_name=record.name)
    metrics = [
        Metric(key, value, began + round(1000 * group.elapsed_s), step)
        for group in record.groups
        for key, value, step in group.values
    ]
    params = [Param(key, value) for key, value in record.params.items()]
    client.log_batch(run.info.run_id, metrics, params)
    client.set_terminated(run.info.run_id, status=record.status)


def milliseconds(uri: str, parents: list[RunRecord], trials: list[RunRecord]) -> dict[str, float]:
    """Of a trial: `ours`, `peer` and their `ratio`."""
    client = open_client(uri)
    experiment = client.create_experiment(f"sync {time.time_ns()}")
    runs = StudyRuns(client, experiment, "0" * 32)
    runs.write_all(parents, started=lambda _: START)
    for record in trials[:TURN]:  # all workers of a server are there, and have their connections
        peer(client, experiment, record)
    ours = theirs = 0.0
    for begin in range(0, len(trials), TURN):
        some = trials[begin : begin + TURN]
        begun = time.perf_counter()
        runs.write_all(some, started=lambda _: START)
        between = time.perf_counter()
        for record in some:
            peer(client, experiment, record)
        ours += between - begun
        theirs += time.perf_counter() - between
    scale = 1000 / len(trials)
    return {"ours": ours * scale, "peer": theirs * scale, "ratio": ours / theirs}


@contextmanager
def server(database: str, folder: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port)]
    command += ["--backend-store-uri", database, "--workers", str(SERVER_WORKERS)]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, env=environment
        )
    uri = f"http://127.0.0.1:{port}"
    try:
        while not _answers(uri):
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.2)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def _answers(uri: str) -> bool:
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=1):
            return True
    except OSError:
        return False


def main(
    trials: Annotated[int, typer.Option(help="how many")] = 100,
    postgres: Annotated[str | None, typer.Option(help="address of an empty database")] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parents, all_trials = trial_records(folder / "runs", trials)
        points = sum(len(group.values) for record in all_trials for group in record.groups)
        if not as_json:
            print(f"{trials} trials of {REPORTS} reports and {points / trials:.0f} points, each:")
        found = {}
        for store, uri in stores(folder, postgres):
            took = found[store] = milliseconds(uri, parents, all_trials)
            if not as_json:
                words = f"{store}: {took['ours']:.0f} ms, the peer {took['peer']:.0f} ms"
                print(f"{words}: ratio {took['ratio']:.2f}", flush=True)
    if as_json:
        print(json.dumps(found, indent=1))


def stores(folder: Path, postgres: str | None) -> Iterator[tuple[str, str]]:
    """Each store by name, with its address while it is looked at."""
    yield "SQLite", f"sqlite:///{folder / 'own.db'}"
    with server(f"sqlite:///{folder / 'served.db'}", folder) as uri:
        yield "a server over SQLite", uri
    if postgres is not None:
        yield "PostgreSQL", postgres
        with server(postgres, folder) as uri:
            yield "a server over PostgreSQL", uri


if __name__ == "__main__":
    typer.run(main)
